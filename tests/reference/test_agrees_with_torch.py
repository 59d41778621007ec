"""`reference` against torch.nn.LSTM and torch.nn.GRU, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from reference_cases import ENGINES, Problem, assert_close, normal_like, problems, tree_map
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from l0gate.reference import Net


def _module(problem: Problem) -> torch.nn.Module:
    layer = problem.layer
    kind = torch.nn.LSTM if layer["type"] == "lstm" else torch.nn.GRU
    module = kind(
        problem.x.shape[2],
        problem.parameters["weight_hh_l0"].shape[1],
        layer["num_layers"],
        bias=layer["bias"],
        batch_first=problem.net.batch_first,
        bidirectional=layer["bidirectional"],
        dtype=torch.float64,
    )
    module.load_state_dict({k: torch.tensor(p) for k, p in problem.parameters.items()})
    return module


def _stack(state: tuple, lstm: bool) -> list[torch.Tensor]:
    """The states as torch has them: h, and c for an LSTM, of shape (layers, B, H)."""
    parts = zip(*state, strict=True) if lstm else [state]
    return [torch.tensor(np.stack(part), requires_grad=True) for part in parts]


def _unstack(tensors: list[torch.Tensor], lstm: bool) -> tuple:
    arrays = [tensor.numpy() for tensor in tensors]
    return tuple(zip(*arrays, strict=True)) if lstm else tuple(arrays[0])


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(), zero_state=st.booleans())
def test_outputs_states_and_gradients_agree(
    engine: str, problem: Problem, zero_state: bool
) -> None:
    assume(problem.layer.get("reset_after", True))
    net, lstm = problem.net, problem.layer["type"] == "lstm"
    state = tree_map(np.zeros_like, problem.state) if zero_state else problem.state
    y, last, tape = net.forward(
        problem.parameters,
        problem.x,
        None if zero_state else state,
        lengths=problem.lengths,
        engine=engine,
    )
    rng = np.random.default_rng(problem.seed)
    dy, dlast = normal_like(rng, y), normal_like(rng, last)
    gradients, dx, dstate, _ = net.backward(tape, dy, dlast)

    module = _module(problem)
    x, initial = torch.tensor(problem.x, requires_grad=True), _stack(state, lstm)
    read = x
    if problem.lengths is not None:
        read = pack_padded_sequence(
            x, torch.tensor(problem.lengths), net.batch_first, enforce_sorted=False
        )
    torch_y, torch_last = module(read, tuple(initial) if lstm else initial[0])
    if problem.lengths is not None:
        torch_y, _ = pad_packed_sequence(torch_y, net.batch_first)
    torch_last = list(torch_last) if lstm else [torch_last]
    torch.autograd.backward(
        [torch_y, *torch_last], [torch.tensor(dy), *(t.detach() for t in _stack(dlast, lstm))]
    )

    assert_close(y, torch_y.detach().numpy())
    assert_close(last, _unstack([t.detach() for t in torch_last], lstm))
    assert_close(gradients, {k: p.grad.numpy() for k, p in module.named_parameters()})
    assert_close(dx, x.grad.numpy())
    assert_close(dstate, _unstack([t.grad for t in initial], lstm))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("batch", [1, 4])  # fewer and more positions than words
def test_a_language_model_agrees(engine: str, dtype: type, kind: str, batch: int) -> None:
    net = Net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": kind, "name": "rnn", "num_layers": 2},
            {"type": "linear", "name": "decoder"},
        ]
    )
    rng = np.random.default_rng(0)
    sizes = {"embedding": 5, "rnn": 7, "decoder": 11}
    parameters = net.init(rng, input_size=11, sizes=sizes, dtype=dtype)
    tokens, targets = rng.integers(0, 9, (2, 6, batch))  # tokens 9 and 10 stay without a gradient
    loss, gradients, _ = net.loss_and_gradients(parameters, tokens, targets, engine=engine)

    rnn = torch.nn.LSTM if kind == "lstm" else torch.nn.GRU
    modules = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(11, 5),
            "rnn": rnn(5, 7, 2),
            "decoder": torch.nn.Linear(7, 11),
        }
    ).to(torch.float32 if dtype is np.float32 else torch.float64)
    modules.load_state_dict({k: torch.tensor(p) for k, p in parameters.items()})
    hidden, _ = modules["rnn"](modules["embedding"](torch.tensor(tokens)))
    logits = modules["decoder"](hidden).reshape(-1, 11)
    torch_loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets).reshape(-1))
    torch_loss.backward()

    assert loss == pytest.approx(torch_loss.item(), rel=1e-5 if dtype is np.float32 else 1e-12)
    expected = {k: p.grad.numpy() for k, p in modules.named_parameters()}
    assert set(gradients) == set(expected)
    assert_close({name: gradients[name] for name in expected}, expected, dtype)
    assert not gradients["embedding.weight"][9:].any()
