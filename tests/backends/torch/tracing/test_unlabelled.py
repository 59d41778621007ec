"""Zeros that the model makes, learned initial states: tensors that meet neurons without a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates

import l0gate
from l0gate.backends._torch.tracing.unlabelled import Unlabelled

H, X, T, B = 8, 5, 4, 3


class Loop(nn.Module):
    """A loop over time around one cell; `step` combines the new state with the old one."""

    def __init__(self, start: Callable[..., Any], step: Callable[..., Any]) -> None:
        super().__init__()
        self.cell = nn.GRUCell(X, H)
        self.out = nn.Linear(H, 3)
        self.first = nn.Parameter(torch.randn(1, H))
        self.start, self.step = start, step

    def forward(self, x: Tensor) -> Any:
        h = self.start(self, x)
        for t, x_t in enumerate(x):
            h = self.step(h, self.cell(x_t, h), t)
        return self.out(h)


def zeros(m: Any, x: Tensor) -> Tensor:
    return x.new_zeros(x.shape[1], m.cell.hidden_size)


def lengths(t: int) -> Tensor:
    return (t < torch.tensor([4, 2, 1]))[:, None]


def where(h: Tensor, new: Tensor, t: int) -> Tensor:
    return torch.where(lengths(t), new, h)


def mixed(h: Tensor, new: Tensor, t: int) -> Tensor:
    mask = lengths(t).float()
    return mask * new + (1 - mask) * h


def joined(h: Tensor, new: Tensor, t: int) -> Tensor:
    return torch.cat([new[:2], h[2:]])


def zoneout(h: Tensor, new: Tensor, t: int) -> Tensor:
    return torch.lerp(new, h, 0.3)


def written(h: Tensor, new: Tensor, t: int) -> Tensor:
    kept = h.clone()
    kept[lengths(t)[:, 0]] = new[lengths(t)[:, 0]]
    return kept


STARTS: dict[str, Callable[..., Any]] = {
    "new_zeros": zeros,
    "zeros": lambda m, x: torch.zeros(x.shape[1], m.cell.hidden_size),
    "full": lambda m, x: torch.full((x.shape[1], m.cell.hidden_size), 0.5),
    "filled": lambda m, x: torch.empty(x.shape[1], m.cell.hidden_size).fill_(0.1),
    "computed": lambda m, x: torch.tanh(zeros(m, x) + 1.0).unsqueeze(0).repeat(2, 1, 1)[1],
    "learned": lambda m, x: m.first.expand(x.shape[1], -1),
    "learned and bounded": lambda m, x: torch.tanh(m.first).repeat(x.shape[1], 1),
}
STEPS = {f.__name__: f for f in (where, mixed, joined, zoneout, written)}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_the_model_makes_is_followed(start: str, step: str) -> None:
    model = Loop(STARTS[start], STEPS[step])
    x = torch.randn(T, B, X)
    gated = l0gate.gate(model, example_inputs=x, strength=1e-3)
    assert not gated.frozen
    set_gates(gated)
    small = gated.eval().shrink()
    assert small.cell.hidden_size < H
    assert_close(small(x), gated(x))
    assert small.first.shape[-1] == (H if "learned" not in start else small.cell.hidden_size)


def test_outputs_that_are_filled_in() -> None:
    def run(h: Tensor, new: Tensor, t: int) -> Tensor:
        out = new.new_zeros(2, *new.shape)
        out[0] = new
        out[1, :, :] = h
        out[..., :, :][1] = new
        return out.sum(0)

    gated = l0gate.gate(Loop(zeros, run), example_inputs=torch.randn(T, B, X), strength=1e-3)
    assert not gated.frozen
    set_gates(gated)
    assert gated.eval().shrink().cell.hidden_size < H


def test_a_size_that_is_written_as_a_number_is_named_with_its_line() -> None:
    def start(m: Any, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[1], 8)

    class Two(Loop):
        def __init__(self) -> None:
            super().__init__(start, where)
            self.rnn = nn.GRU(X, X)

        def forward(self, x: Tensor) -> Any:
            return super().forward(self.rnn(x)[0])

    with pytest.warns(UserWarning, match=r"in line \d+ of test_unlabelled.py: return torch.where"):
        gated = l0gate.gate(Two(), example_inputs=torch.randn(T, B, X), strength=1e-3)
    assert set(gated.frozen) == {"h1"}


def test_values_that_only_happen_to_be_constant_do_not_count() -> None:
    model = Loop(lambda m, x: x.new_tensor([[0.0] * 8] * 3), where)
    with pytest.raises(l0gate.L0GateError, match="together with a tensor that has a value for"):
        l0gate.gate(model, example_inputs=torch.randn(T, B, X), strength=1e-3)


def test_what_is_known_of_tensors() -> None:
    known = Unlabelled(frozenset({"add"}))
    a, b = torch.zeros(3, 4), torch.randn(3, 4)
    known.follow("zeros", [], a, {}, ())
    constants = {id(t): known.constant_dims(t) for t in (a, b)}
    assert constants == {id(a): {-1, -2}, id(b): set()}
    total, part = a + b, a[1:]
    known.follow("add", [a, b], total, constants, {id(b)})
    known.follow("getitem", [a], part, constants, ())
    assert not known.constant_dims(total)
    assert known.constant_dims(part) == {-1, -2}
    assert any(t is b for t in known.sources_of(total))
    a[0, 0] = 1.0
    assert not known.constant_dims(a)
    assert known.constant_dims(torch.ones(3, 1)) == {-1}
    assert known.constant_dims(torch.arange(3.0)[:, None].expand(3, 4)) == {-1}
    assert not known.constant_dims(torch.eye(3).to_sparse())
