"""The axes of recurrent states, and which of them keep one count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn
from torch_models import Language

import l0gate
from l0gate import L0GateError, Layout
from l0gate.backends._torch.recurrent_axes import (
    cell_blocks,
    equal_groups,
    recurrent_axes,
    widen_projected,
)


def test_the_axes_of_every_state() -> None:
    model = Language(nn.LSTM, bidirectional=True)
    axes = recurrent_axes(model, Layout.lstm(2, bidirectional=True))
    assert axes == {"rnn": (("f0", "b0", "f1", "b1"),) * 2}
    patterns = {"weight_ih": "(3 h) <- x", "weight_hh": "(3 h) <- h"}
    patterns |= {"bias_ih": "(3 h)", "bias_hh": "(3 h)"}
    assert recurrent_axes(nn.GRUCell(3, 4), Layout(patterns)) == {"": (("h",),)}
    assert recurrent_axes(nn.Linear(3, 4), Layout({"weight": "h <- x", "other": "_ <- h"})) == {}


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (nn.LSTM(2, 3), 4),
        (nn.GRU(2, 3), 3),
        (nn.RNN(2, 3, nonlinearity="relu"), 1),
        (nn.LSTMCell(2, 3), 4),
        (nn.GRUCell(2, 3), 3),
        (nn.RNNCell(2, 3), 1),
    ],
)
def test_the_blocks_of_a_weight(module: Any, count: int) -> None:
    weight = next(p for name, p in module.named_parameters() if name.startswith("weight_hh"))
    assert cell_blocks(module) == count == weight.shape[0] // 3


def test_modules_that_share_an_axis_keep_one_count() -> None:
    class Mine(nn.GRU):
        pass

    model = nn.ModuleList([nn.GRU(2, 3, 2), Mine(2, 3, 2), nn.GRU(2, 3)])
    axes = {"0": (("a", "b"),), "1": (("b", "c"),), "2": (("d",),)}
    assert equal_groups(model, axes) == (("a", "b", "c"), ("d",))
    assert equal_groups(model, axes, every=False) == (("b", "c"),)


def test_a_projection_stays_below_the_hidden_size() -> None:
    axes = {"rnn": (("p0", "p1"), ("h0", "h1"))}
    sizes = {"p0": 3, "p1": 3, "h0": 5, "h1": 5}
    kept = {axis: np.array([1]) for axis in sizes} | {"p0": np.array([0, 2]), "h1": np.arange(3)}
    found = widen_projected(axes, kept, sizes, [])
    assert {axis: index.tolist() for axis, index in found.items()} == {
        **{axis: index.tolist() for axis, index in kept.items()},
        "h0": [0, 1, 2],
    }
    grouped = widen_projected(axes, kept | {"h1": np.array([4])}, sizes, [("h0", "h1")])
    assert [grouped[axis].tolist() for axis in ("h0", "h1")] == [[0, 1, 2], [0, 1, 4]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.weight_hh_l0": "(3 h0) <- h0"}, r"'\(3 h0\) <- h0'; torch's LSTM needs '\(4 h\)"),
        ({"rnn.weight_hh_l0": "(4 h0) <- _"}, r"torch's LSTM needs '\(4 h\) <- h'"),
        ({"rnn.bias_hh_l1": None}, r"every parameter of module 'rnn'; missing: rnn\.bias_hh_l1"),
        ({"rnn.weight": "_ <- x"}, r"names the parameter 'rnn\.weight', which the model does not"),
    ],
)
def test_layouts_that_do_not_fit_the_model(changes: dict[str, Any], message: str) -> None:
    patterns = {**Layout.lstm(2).to_dict(), **changes}
    layout = Layout({name: text for name, text in patterns.items() if text is not None})
    with pytest.raises(L0GateError, match=message):
        l0gate.gate(Language(), layout=layout, strength=1e-3)
