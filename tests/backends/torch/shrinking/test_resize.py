"""Modules keep their class, their settings and their hooks, and say their new sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_models import Language, assert_close, gated_language, keep_counts, set_gates, tokens

import l0gate
from l0gate.backends import RaggedRNN


def test_modules_keep_their_kind_and_say_their_sizes() -> None:
    model = Language(nn.GRU, dropout=0.2)
    model.embedding = nn.Embedding(11, 6, padding_idx=2)
    model.embedding.weight.requires_grad_(False)
    model.rnn.weight_hh_l1.requires_grad_(False)
    gated = gated_language(model=model)
    keep_counts(gated, x=4, h0=5, h1=3)
    small = gated.shrink()
    assert isinstance(small, Language)
    assert repr(small.embedding) == "Embedding(11, 4, padding_idx=2)"
    assert repr(small.decoder) == "Linear(in_features=3, out_features=11, bias=True)"
    assert isinstance(small.rnn, RaggedRNN)
    assert (small.rnn.input_size, small.rnn.hidden_sizes, small.rnn.dropout) == (4, (5, 3), 0.2)
    frozen = [name for name, p in small.named_parameters() if not p.requires_grad]
    assert frozen == ["embedding.weight", "rnn.cells.1.weight_hh_l0"]
    assert small.training
    assert small.rnn.training
    assert not gated.eval().shrink().rnn.training
    stock = gated.shrink(equal=True)
    assert repr(stock.rnn) == "GRU(4, 5, num_layers=2, dropout=0.2)"
    assert [len(index) for index in stock.certificate.kept.values()] == [4, 5, 5]


def test_one_layer_stays_stock() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            zeros = torch.zeros(1, len(x), 6)  # a size of its own
            y: Tensor = self.out(self.rnn(x, (zeros, zeros))[0])
            return y

    gated = gated_language(model=One(), example_inputs=torch.randn(2, 5, 3))
    keep_counts(gated, h0=2)
    small = gated.shrink()
    assert repr(small.rnn) == "LSTM(3, 2, batch_first=True)"
    assert_close(small(torch.ones(4, 7, 3)), gated.eval()(torch.ones(4, 7, 3)))


def test_hooks_go_over_to_a_ragged_module() -> None:
    seen: list[Any] = []
    model = Language()
    model.rnn.register_forward_hook(lambda module, args, out: seen.append(type(module)))
    set_gates(gated := gated_language(model=model))
    small = gated.shrink()
    assert isinstance(small.rnn, RaggedRNN)
    seen.clear()
    small(tokens())
    assert seen == [RaggedRNN]


def test_a_tied_weight_stays_one_tensor() -> None:
    class Tied(Language):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(6, 11, bias=False)
            self.decoder.weight = self.embedding.weight
            self.back = nn.Linear(8, 6)

        def forward(self, x: Tensor, state: Any = None) -> Any:
            return self.decoder(self.back(self.rnn(self.embedding(x), state)[0]))

    gated = l0gate.gate(Tied(), example_inputs=tokens(), strength=1e-3)
    set_gates(gated)
    small = gated.shrink()
    assert small.decoder.weight is small.embedding.weight
    assert small.embedding.embedding_dim == small.decoder.in_features < 6
    assert_close(small(tokens()), gated.eval()(tokens()))
