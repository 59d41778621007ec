"""Example inputs, more like them, and what a run of a model shows."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import Language, tokens

from l0gate import L0GateError
from l0gate.backends._torch.examples import Examples, conventional_inputs, observe


def test_examples_follow_the_model_to_its_device() -> None:
    x = torch.tensor([[1.0, 2.0]])
    examples = Examples(((x, torch.tensor([3])), {}), {1: 5}, x.device)
    for (drawn, lookup), _ in examples.draw(3, torch.device("cpu")):
        assert set(drawn.flatten().tolist()) <= {1.0, 2.0}  # the example's own floats
        assert 0 <= int(lookup) < 5
    elsewhere = Examples(((x,), {}), {}, torch.device("cuda"))
    for example, device in ((examples, "meta"), (elsewhere, "cpu")):
        drawn = next(example.draw(1, torch.device("meta")))[0][0]
        assert drawn.device.type == device


def test_what_is_drawn() -> None:
    mask = torch.tensor([[0.0, -torch.inf]])
    inputs = (tokens(), torch.ones(5, 3), mask, torch.tensor([4, 2])), {"x": torch.arange(2.0)}
    examples = Examples(inputs, {0: 3}, torch.device("cpu"))
    first, second, third = (
        [*args, kwargs["x"]] for args, kwargs in examples.draw(3, torch.device("cpu"))
    )
    assert all(torch.equal(*pair) for pair in zip(first, [*inputs[0], inputs[1]["x"]], strict=True))
    for drawn in (second, third):
        assert set(drawn[0].flatten().tolist()) <= {0, 1, 2}
        assert len(set(drawn[1].flatten().tolist())) == 15  # a constant does not tell the range
        assert torch.equal(drawn[2], mask)
        assert torch.equal(drawn[3], inputs[0][3])
        assert set(drawn[4].tolist()) <= {0.0, 1.0}
    assert not torch.equal(second[1], third[1])
    resized = Examples(((tokens(),), {}), {0: 3}, torch.device("cpu"), any_size=True)
    shapes = [tuple(args[0].shape) for args, _ in resized.draw(3, torch.device("cpu"))]
    assert shapes == [(5, 3), (1, 1), (7, 5)]


def test_a_pickle_of_0_1_0_has_another_name_for_any_size() -> None:
    old = Examples.__new__(Examples)
    state = {"inputs": ((tokens(),), {}), "tokens": {0: 3}, "device": torch.device("cpu")}
    old.__setstate__({**state, "free": True})
    assert old.any_size
    assert pickle.loads(pickle.dumps(old)).any_size


def test_likely_inputs() -> None:
    ((x,), _) = conventional_inputs(Language()) or ((None,), {})
    assert (x.shape, x.dtype) == ((5, 3), torch.int64)
    ((x,), _) = conventional_inputs(nn.Sequential(nn.GRU(4, 2).double())) or ((None,), {})
    assert (x.shape, x.dtype) == ((5, 3, 4), torch.float64)
    assert conventional_inputs(nn.Linear(2, 2)) is None


def test_what_a_run_shows() -> None:
    model, state = Language(nn.GRU), torch.zeros(2, 3, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    observed = observe(model, ((tokens(), state), {}))
    assert observed.tokens == {0: 11}
    assert observed.stateful == {"rnn"}
    assert {"embedding", "gru", "linear"} <= observed.calls
    assert observed.output[0].shape == (5, 3, 11)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.rnn._forward_pre_hooks


def test_what_fails_is_said() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Any:
            raise KeyError("no")

    with pytest.raises(L0GateError, match=r"`example_inputs`: the model Broken fails .* KeyError"):
        observe(Broken(), ((tokens(),), {}))
