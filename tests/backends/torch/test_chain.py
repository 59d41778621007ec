"""Whether a whole model is a chain of layers is proved by running the chain."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import Language, tokens

import l0gate
from l0gate import Layout
from l0gate.backends._torch.chain import layers_of
from l0gate.backends._torch.gating.study import study


def chain_of(model: nn.Module, inputs: Any, layout: Layout | None = None) -> Any:
    return study(model, inputs, layout, (), strict=False).chain


@pytest.mark.parametrize("layout", [None, Layout.gru(2)])
def test_a_chain_is_found(layout: Layout | None) -> None:
    chain = chain_of(Language(nn.GRU, dropout=0.5), tokens(), layout)
    assert [layer["type"] for layer in chain.layers] == ["embedding", "gru", "linear"]
    assert (chain.state_axes, chain.batch_first) == (("h0", "h1"), False)
    first = chain_of(Language(nn.GRU, batch_first=True), tokens(1, 1), layout)
    assert first.batch_first


def test_initial_states_are_part_of_a_chain() -> None:
    state = (torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    assert chain_of(Language(), (tokens(), state)) is not None


class Softmax(Language):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return F.log_softmax(super().forward(x, state)[0], -1)


class Scaled(Language):
    def forward(self, x: Tensor, scale: Any = None) -> Any:
        return super().forward(x)[0] * (1.0 if scale is None else scale)


class Spare(Language):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


class Skipped(Language):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = self.rnn(self.embedding(x))
        return self.decoder(self.dropout(y)).squeeze(0), state


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Softmax(), tokens()),  # calls a function that no layer calls
        (Scaled(), (tokens(), torch.ones(1))),  # has a further input
        (Spare(), tokens()),  # has a tensor that no layer has
        (Skipped(), tokens(1, 3)),  # returns another shape
    ],
)
def test_what_is_no_chain(model: nn.Module, inputs: Any) -> None:
    assert chain_of(model, inputs) is None


def test_names_of_the_layout_must_be_those_of_the_chain() -> None:
    patterns = {
        name: str(text).replace("h0", "h").replace("h1", "h0").replace("(4 h)", "(4 h1)")
        for name, text in Layout.lstm(2).to_dict().items()
    }
    patterns = {n: re.sub(r"\bh$", "h1", text) for n, text in patterns.items()}
    layout = Layout(patterns, uses={"embedding.weight": 0})
    assert chain_of(Language(), tokens(), Layout.lstm(2)) is not None
    assert chain_of(Language(), tokens(), layout) is None


def test_modules_as_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.GRU(4, 5, bidirectional=True))
    assert layers_of(model) == [
        {"type": "linear", "name": "0", "bias": False},
        {"type": "activation", "function": "relu"},
        {"type": "gru", "name": "2", "num_layers": 1, "bidirectional": True, "bias": True},
    ]


class Amplifier(nn.Module):
    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        self.rec, self.lin = nn.LSTM(inputs, 8), nn.Linear(8, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(self.rec(x)[0]) + x


class Elman(nn.Module):
    def __init__(self, function: nn.Module, **options: Any) -> None:
        super().__init__()
        self.rec, self.function = nn.RNN(3, 8, **options), function
        self.lin = nn.Linear(8 * (1 + self.rec.bidirectional), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(self.function(self.rec(x)[0]))


@pytest.mark.parametrize(
    ("model", "features"),
    [
        (Amplifier(), 1),
        (Elman(nn.SiLU(), nonlinearity="relu"), 3),
        (Elman(nn.Identity(), num_layers=2, bidirectional=True), 3),
        (Elman(nn.Hardsigmoid(), batch_first=True), 3),
        (Elman(nn.LeakyReLU()), 3),
        (Elman(nn.GELU()), 3),
    ],
)
def test_more_chains_run_without_torch(model: nn.Module, features: int, tmp_path: Any) -> None:
    x = torch.randn(5, 2, features)
    gated = l0gate.gate(model, example_inputs=(x,), budget=l0gate.Budget(parameters=0.6))
    small = gated.shrink()
    l0gate.save(tmp_path / "net.npz", small)
    y, _ = l0gate.load(tmp_path / "net.npz")(x.numpy())
    torch.testing.assert_close(torch.tensor(y), small(x), rtol=1e-4, atol=1e-5)


def test_what_is_added_must_not_be_pruned() -> None:
    assert chain_of(Amplifier(), torch.randn(5, 2, 1)) is not None
    assert chain_of(Elman(nn.LeakyReLU(0.3)), torch.randn(5, 2, 3)) is None  # another slope
