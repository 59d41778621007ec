"""Sizes in a model's attributes change with the neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates

import l0gate
from l0gate.backends._torch.tracing.sizes import Size, mark_sizes, sizes_in

H, X = 8, 5


class Sized(nn.Module):
    """Code that uses `self.hidden` where it needs the hidden size of the recurrent layer."""

    def __init__(self, run: Any = None, bidirectional: bool = False) -> None:
        super().__init__()
        self.hidden = H
        self.rnn = nn.GRU(X, H, bidirectional=bidirectional)
        self.out = nn.Linear(H * (1 + bidirectional), 3)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.out(self.run(self, x))


def halves(m: Any, x: Tensor) -> Tensor:
    y = m.rnn(x)[0]
    return torch.cat([y[-1, :, : m.hidden], y[0, :, m.hidden :]], -1)


def last_half(m: Any, x: Tensor) -> Tensor:
    y = m.rnn(x)[0][-1, :, -m.hidden :]
    return torch.cat([y, y], -1)


def merged(m: Any, x: Tensor) -> Tensor:
    return m.rnn(x)[0].reshape(-1, m.hidden)


def viewed(m: Any, x: Tensor) -> Tensor:
    return m.rnn(x)[0].view(len(x), -1, 2, m.hidden).transpose(-1, -2).flatten(-2)


def masked(m: Any, x: Tensor) -> Tensor:
    y = m.rnn(x)[0]
    return torch.where(y > 0, y, torch.zeros(x.shape[1], m.hidden))


def check(run: Any, tmp_path: Path, bidirectional: bool = False) -> None:
    x = torch.randn(4, 2, X)
    gated = l0gate.gate(Sized(run, bidirectional), example_inputs=x, strength=1e-3)
    assert not gated.frozen
    set_gates(gated)
    small: Any = gated.eval().shrink()
    assert small.hidden == small.rnn.hidden_size < H
    assert gated.model.hidden == H
    assert type(small.hidden) is type(gated.model.hidden) is int
    assert_close(small(x), gated(x))
    l0gate.save(tmp_path / "net.npz", small)
    again = l0gate.load(tmp_path / "net.npz", into=Sized(run, bidirectional)).eval()
    assert torch.equal(again(x), small(x))


def test_shapes(tmp_path: Path) -> None:
    check(merged, tmp_path)


def test_zeros(tmp_path: Path) -> None:
    check(masked, tmp_path)


def test_halves(tmp_path: Path) -> None:
    check(halves, tmp_path, bidirectional=True)


def scaled(m: Any, x: Tensor) -> Tensor:
    """The number is the size of the axis, and is a number in the formula too."""
    y = m.rnn(x)[0]
    return y / m.hidden + y.sum(0, keepdim=True) / torch.full((1,), m.hidden)


def test_a_number_that_is_no_size_stays() -> None:
    x = torch.randn(4, 2, X)
    gated = l0gate.gate(Sized(scaled), example_inputs=x, strength=1e-3)
    assert not gated.frozen
    set_gates(gated)
    small: Any = gated.eval().shrink()
    assert small.hidden == H > small.rnn.hidden_size
    assert_close(small(x), gated(x))


def test_a_number_remembers_its_attribute() -> None:
    size = Size(4, "hidden", 4)
    for made in (2 * size, size + 1, size * 2, size // 2):
        assert (made.name, made.base) == ("hidden", 4)
    assert list(sizes_in(([size], {"a": slice(0, size)}, 3))) == [size, size]
    assert torch.zeros(2, size).shape == (2, 4)
    model = Sized()
    mark_sizes(model)
    assert model.hidden.name == "hidden"
    assert type(model.rnn.hidden_size) is int
