"""Cells with any functions: with the usual ones, they are the scans of LSTM and GRU."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.reference import gru_scan, lstm_scan
from l0gate.reference._activations import activation
from l0gate.reference._general_cells import cell_scan, gru_cell, lstm_cell, rnn_cell

USUAL = activation("tanh"), activation("sigmoid")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, np.array([5, 0, 2])])
@pytest.mark.parametrize("cell", ["lstm", "gru", "reset before"])
def test_the_usual_functions(cell: str, lengths: np.ndarray | None, reverse: bool) -> None:
    rng = np.random.default_rng(0)
    blocks = 4 if cell == "lstm" else 3
    gx, weight = rng.standard_normal((5, 3, 4 * blocks)), rng.standard_normal((4 * blocks, 4))
    h, c, bias = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal(4)
    if cell == "lstm":
        *expected, _ = lstm_scan(gx, weight, h, c, lengths, reverse)
        y, states = cell_scan(lstm_cell(weight, *USUAL), gx, (h, c), lengths, reverse)
    else:
        after = cell == "gru"
        *expected, _ = gru_scan(gx, weight, bias, h, after, lengths, reverse)
        own = gru_cell(weight, bias, after, *USUAL)
        y, states = cell_scan(own, gx, (h,), lengths, reverse)
    for a, b in zip((y, *states), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_other_functions_by_hand() -> None:
    gx = np.array([[[1.0, 2.0, 3.0, 4.0]]])
    relu, hard = activation("relu"), activation("hard_sigmoid_keras2")
    cell = lstm_cell(np.zeros((4, 1)), relu, hard)
    y, (_, c) = cell_scan(cell, gx, (np.zeros((1, 1)), np.ones((1, 1))), None, False)
    assert c.item() == pytest.approx(0.9 * 1 + 0.7 * 3)  # f c + i g
    assert y.item() == pytest.approx(1.0 * 3.0)  # o = clip(0.8 + 0.5) = 1
    y, _ = cell_scan(rnn_cell(np.ones((1, 1)), relu), gx[..., :1], (np.ones((1, 1)),), None, False)
    assert y.item() == 2
