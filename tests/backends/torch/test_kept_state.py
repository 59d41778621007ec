"""State that a model keeps from call to call: in training, in the small model, in its file."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates

import l0gate
from l0gate import L0GateError
from l0gate.backends._torch.kept_state import CopyTensors, Watch, change_held, held_tensors

H, X = 8, 5


class Keeps(nn.Module):
    """A recurrent module whose state is kept by `keep` and fetched by `fetch`."""

    def __init__(self, run: Callable[..., Any], make: Any = None, cell: Any = nn.GRU) -> None:
        super().__init__()
        self.rnn = cell(X, H)
        self.out = nn.Linear(H, 3)
        self.run = run
        if make is not None:
            make(self)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


@dataclass
class State:
    h: Tensor


class Slots:
    __slots__ = ("h",)

    def __init__(self, h: Tensor) -> None:
        self.h = h


def zeros(batch: int = 2) -> Tensor:
    return torch.zeros(1, batch, H)


def in_dict(m: Any, x: Tensor) -> Tensor:
    y, m.state["h"] = m.rnn(x, m.state["h"])
    m.state["h"] = m.state["h"].detach()
    return m.out(y)


def in_record(m: Any, x: Tensor) -> Tensor:
    y, h = m.rnn(x, m.state.h)
    m.state.h = h.detach()
    return m.out(y)


def in_deque(m: Any, x: Tensor) -> Tensor:
    y, h = m.rnn(x, m.state[-1])
    m.state.append(h.detach())
    return m.out(y)


def made_later(m: Any, x: Tensor) -> Tensor:
    y, h = m.rnn(x, getattr(m, "state", None))
    m.state = h.detach()
    return m.out(y)


def in_pairs(m: Any, x: Tensor) -> Tensor:
    y, (h, c) = m.rnn(x, m.state)
    m.state = [h.detach(), c.detach()]
    return m.out(y)


def of_cell(m: Any, x: Tensor) -> Tensor:
    ys = []
    for x_t in x:
        m.h = m.rnn(x_t, m.h)
        ys.append(m.h)
    m.h = m.h.detach()
    return m.out(torch.stack(ys))


def averaged(m: Any, x: Tensor) -> Tensor:
    y, _ = m.rnn(x)
    m.mean = 0.9 * m.mean + 0.1 * y.mean((0, 1)).detach()
    return m.out(y - m.mean)


def in_place(m: Any, x: Tensor) -> Tensor:
    y, h = m.rnn(x, m.h.clone())
    m.h = h.detach().clone()
    m.calls += 1
    return m.out(y)


def remembered(m: Any, x: Tensor) -> Tensor:
    """Kept with its graph, for a loss of the user's, and never read."""
    m.seen, _ = m.rnn(x)
    return m.out(m.seen)


def buffers(m: Any) -> None:
    m.register_buffer("h", zeros())
    m.register_buffer("calls", torch.zeros(()))


MODELS: dict[str, Callable[[], Keeps]] = {
    "dict": lambda: Keeps(in_dict, lambda m: setattr(m, "state", {"h": zeros()})),
    "empty dict": lambda: Keeps(in_dict, lambda m: setattr(m, "state", {"h": None})),
    "dataclass": lambda: Keeps(in_record, lambda m: setattr(m, "state", State(zeros()))),
    "namespace": lambda: Keeps(in_record, lambda m: setattr(m, "state", SimpleNamespace(h=None))),
    "slots": lambda: Keeps(in_record, lambda m: setattr(m, "state", Slots(zeros()))),
    "deque": lambda: Keeps(in_deque, lambda m: setattr(m, "state", deque([zeros()], maxlen=2))),
    "made in a call": lambda: Keeps(made_later),
    "a list of h and c": lambda: Keeps(
        in_pairs, lambda m: setattr(m, "state", [zeros() + 0.5, zeros()]), nn.LSTM
    ),
    "cell": lambda: Keeps(of_cell, lambda m: setattr(m, "h", zeros()[0]), nn.GRUCell),
    "buffers": lambda: Keeps(in_place, buffers),
    "buffer that is no part of the file": lambda: Keeps(
        averaged, lambda m: m.register_buffer("mean", torch.zeros(H), persistent=False)
    ),
    "average": lambda: Keeps(averaged, lambda m: setattr(m, "mean", torch.zeros(H))),
    "with its graph": lambda: Keeps(remembered),
}


def gated_of(name: str) -> Any:
    torch.manual_seed(0)
    gated = l0gate.gate(MODELS[name](), example_inputs=torch.randn(4, 2, X), strength=1e-3)
    assert not gated.frozen
    return gated


def train(gated: Any, batch: int = 2) -> None:
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-3))
    for step in range(3):
        loss = gated(torch.randn(4, batch, X)).square().mean() + gated.penalty(step / 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_state_is_trained_made_small_saved_and_loaded(
    name: str, tmp_path: Path
) -> None:
    gated = gated_of(name)
    train(gated)
    set_gates(gated)
    small = gated.eval().shrink()
    assert len(small.certificate.kept["h0"]) < H
    first, second = torch.randn(4, 2, X), torch.randn(4, 2, X)
    l0gate.save(tmp_path / "fresh.npz", small)
    fresh = l0gate.load(tmp_path / "fresh.npz", into=MODELS[name]).eval()
    assert_close(fresh(first), small(first))
    assert_close(fresh(second), small(second))
    l0gate.save(tmp_path / "used.npz", small)
    again = l0gate.load(tmp_path / "used.npz", into=MODELS[name]).eval()
    assert again(first).shape == (4, 2, 3)


def test_the_small_model_starts_from_the_state_of_when_it_was_gated() -> None:
    gated = gated_of("a list of h and c")
    before = copy.deepcopy(gated.model.state)
    train(gated)
    now = gated.model.state
    set_gates(gated)
    small = gated.eval().shrink()
    kept = torch.as_tensor(small.certificate.kept["h0"])
    assert [t.tolist() for t in small.state] == [t[..., kept].tolist() for t in before]
    assert gated.model.state is now


def test_the_last_batch_may_have_another_size() -> None:
    gated = gated_of("made in a call")
    train(gated)
    gated.model.state = None
    train(gated, batch=3)
    set_gates(gated)
    assert gated.eval().shrink()(torch.randn(4, 2, X)).shape == (4, 2, 3)
    small = gated.shrink(example_inputs=torch.randn(4, 6, X))
    assert small(torch.randn(4, 6, X)).shape == (4, 6, 3)


def test_a_file_of_a_state_of_another_batch_is_loaded(tmp_path: Path) -> None:
    gated = gated_of("buffers")
    set_gates(gated)
    small = gated.eval().shrink()
    small.h = torch.zeros(1, 6, small.rnn.hidden_size)
    small(torch.randn(4, 6, X))
    l0gate.save(tmp_path / "net.npz", small)
    again = l0gate.load(tmp_path / "net.npz", into=MODELS["buffers"]).eval()
    x = torch.randn(4, 6, X)
    assert torch.equal(again.h, small.h)
    assert torch.equal(again(x), small(x))


def test_the_models_own_state_is_not_touched() -> None:
    model = MODELS["dataclass"]()
    state = model.state
    l0gate.gate(model, example_inputs=torch.randn(4, 2, X), strength=1e-3)
    assert model.state is state
    assert not state.h.any()


def test_a_model_that_keeps_state_is_no_chain(tmp_path: Path) -> None:
    set_gates(gated := gated_of("made in a call"))
    l0gate.save(tmp_path / "net.npz", gated.eval().shrink())
    with pytest.raises(L0GateError, match="load it with `into=`"):
        l0gate.load(tmp_path / "net.npz")


def test_what_attributes_hold_is_found_and_changed() -> None:
    model = MODELS["dataclass"]()
    assert list(held_tensors(model)) == ["state[0]"]
    old = model.state
    change_held(model, lambda name, t: t.double())
    assert model.state.h.dtype == torch.float64
    assert old.h.dtype == torch.float32


def test_only_what_a_call_changes_is_state() -> None:
    model = MODELS["buffers"]()
    watch = Watch(model)
    assert not watch.changed()
    model(torch.randn(4, 2, X))
    state = watch.changed()
    assert state.buffers == ["h", "calls"]
    state.restore(model)
    assert not model.h.any()
    assert model.calls == 0


def test_tensors_are_replaced_in_a_copy() -> None:
    value = {"a": [torch.ones(2)]}
    with CopyTensors(lambda t: t + 1):
        made = copy.deepcopy(value)
    assert made["a"][0].tolist() == [2, 2]
    with CopyTensors(lambda t: None):
        assert copy.deepcopy(value)["a"][0].tolist() == [1, 1]
