"""Embedding, linear, convolution and batch norm: what they write and read, and what freezes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import Language, tokens
from torch_shapes import EXPECTED_WARNINGS
from traced_models import Model, assert_frozen, assert_shrinks, gated_model, hidden

import l0gate
from l0gate import L0GateError, Layout

pytestmark = EXPECTED_WARNINGS


class Output(nn.Module):
    """The output of a recurrent module, without its state."""

    def forward(self, result: Any) -> Tensor:
        y: Tensor = result[0]
        return y


def test_a_linear_layer_between_recurrent_ones_writes_their_inputs() -> None:
    first, second = (nn.GRU(6, 5), Output()), (nn.LSTM(7, 4), Output())
    between = nn.Linear(5, 7), nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 6), *first, *between, *second, nn.Linear(4, 2))
    gated = gated_model(model, torch.randn(5, 2, 4))
    assert gated.layout.to_dict() == {
        "0.weight": "x <- _",
        "0.bias": "x",
        "1.weight_ih_l0": "(3 h0) <- x",
        "1.weight_hh_l0": "(3 h0) <- h0",
        "1.bias_ih_l0": "(3 h0)",
        "1.bias_hh_l0": "(3 h0)",
        "3.weight": "x1 <- h0",
        "3.bias": "x1",
        "5.weight_ih_l0": "(4 h1) <- x1",
        "5.weight_hh_l0": "(4 h1) <- h1",
        "5.bias_ih_l0": "(4 h1)",
        "5.bias_hh_l0": "(4 h1)",
        "7.weight": "_ <- h1",
        "7.bias": "_",
    }
    assert_shrinks(gated)


def test_a_convolution_and_a_batch_norm_carry_channels() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.channels(m.conv(m.table(x).permute(1, 2, 0)))
        return m.out(m.rnn(y.permute(2, 0, 1))[0])

    model = Model(run, nn.GRU, num_layers=1).eval()
    model.conv, model.channels = nn.Conv1d(6, 6, 3, padding=1), nn.BatchNorm1d(6)
    layout = gated_model(model).layout.to_dict()
    assert layout["conv.weight"] == "x <- _ _"
    assert layout["table.weight"] == "_ -> _"  # no recurrent layer reads what it writes
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert layout[f"channels.{name}"] == "x"
    assert_shrinks(gated_model(model))


def test_channels_in_groups_are_frozen() -> None:
    model = Model(lambda m, x: m.out(m.conv(hidden(m, x).permute(1, 2, 0)).mean(-1)))
    model.conv = nn.Conv1d(8, 8, 2, groups=2)
    message = r"axis 'h1': module 'conv' \(Conv1d\) uses its neurons in conv1d with groups=2"
    with pytest.warns(UserWarning, match=message):
        assert set(gated_model(model).frozen) == {"h1"}


def test_a_norm_of_the_batch_or_over_time_freezes_channels() -> None:
    model = Model(lambda m, x: m.out(m.channels(hidden(m, x)[-1])))
    model.channels = nn.BatchNorm1d(8, track_running_stats=False)
    with pytest.warns(
        UserWarning, match="'channels' .* keeps no running statistics, so its output"
    ):
        assert set(gated_model(model).frozen) == {"h1"}
    model = Model(lambda m, x: m.out(m.channels(hidden(m, x).transpose(0, 1))))
    model.channels = nn.BatchNorm1d(5)
    with pytest.warns(UserWarning, match="'channels' .* in batch_norm over another dimension"):
        assert set(gated_model(model).frozen) == {"h1"}


def test_an_embedding_with_max_norm_is_frozen() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x)))
    model.table = nn.Embedding(11, 6, max_norm=1.0)
    with pytest.warns(UserWarning, match=r"axis 'x': module 'table' \(Embedding\) has max_norm"):
        assert set(gated_model(model).frozen) == {"x"}


def test_neurons_that_are_looked_up_in_a_table_are_frozen() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = hidden(m, x)
        return m.out(y) + F.embedding((y.abs() > 0.35).long(), m.codes).sum(-2)

    model = Model(run)
    model.codes = nn.Parameter(torch.randn(2, 3))
    with pytest.warns(UserWarning, match="axis 'h1': .* in an index into an embedding table"):
        gated = gated_model(model)
    assert "h1" in gated.frozen
    assert_shrinks(gated, tokens())


def test_a_linear_layer_over_time_freezes_the_neurons() -> None:
    message = "in linear, but not in the last dimension, which it reads"

    def run(m: Any, x: Tensor) -> Tensor:
        y = hidden(m, x)
        return m.out(y) + m.pick(y[:3].permute(1, 2, 0)).sum()

    assert_frozen(run, "h1", message)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_reader_whose_weight_is_computed_is_refused() -> None:
    layout = Layout.lstm(2)
    message = r"'h1': module 'decoder' .* uses its neurons in linear, with a weight that is comp"
    for norm in (nn.utils.parametrizations.weight_norm, nn.utils.weight_norm):
        model = Language()
        model.decoder = norm(model.decoder)
        with pytest.raises(L0GateError, match=message):
            l0gate.gate(model, example_inputs=tokens(), strength=1e-3, strict=True)
        with pytest.raises(L0GateError, match=r"'decoder\.weight', which is computed"):
            l0gate.gate(model, layout=layout, strength=1e-3)


def test_tied_weights_are_one_axis_derived_or_described_by_hand() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.rnn, self.out = nn.Embedding(11, 6), nn.GRU(6, 6), nn.Linear(6, 11)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.rnn(self.table(x))[0])
            return y

    derived = l0gate.gate(Tied(), example_inputs=tokens(), strength=1e-3, strict=True)
    patterns = {
        "table.weight": "_ <- e",
        "out.bias": "_",
        "rnn.weight_ih_l0": "(3 e) <- e",
        "rnn.weight_hh_l0": "(3 e) <- e",
        "rnn.bias_ih_l0": "(3 e)",
        "rnn.bias_hh_l0": "(3 e)",
    }
    named = {name: text.replace("e", "h0") for name, text in patterns.items()}
    assert derived.layout.to_dict() == named
    by_hand = l0gate.gate(Tied(), layout=Layout(patterns), example_inputs=tokens(), strength=1e-3)
    for gated in (derived, by_hand):
        small = assert_shrinks(gated)
        assert small.out.weight is small.table.weight
        assert small.out.in_features == small.table.embedding_dim < 6
    twice = Layout({**patterns, "out.weight": "_ <- e"})
    with pytest.raises(
        L0GateError, match=r"'out\.weight', which is the same tensor as 'table\.weight'"
    ):
        l0gate.gate(Tied(), layout=twice, strength=1e-3)
