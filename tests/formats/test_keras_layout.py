"""Weights as Keras keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import direction

from l0gate.formats.keras_layout import from_keras, swapped, to_keras
from l0gate.formats.layers import Recurrent


def test_blocks_are_exchanged_and_back() -> None:
    array = np.arange(6)
    assert swapped(array).tolist() == [2, 3, 0, 1, 4, 5]
    assert swapped(swapped(array)).tolist() == array.tolist()


@pytest.mark.parametrize(("cell", "reset_after"), [("lstm", True), ("gru", True), ("gru", False)])
@pytest.mark.parametrize("bias", [False, True])
def test_there_and_back(cell: str, reset_after: bool, bias: bool) -> None:
    end = direction(np.random.default_rng(0), cell, 2, 3, bias)
    kernel, recurrent, *rest = to_keras(Recurrent("r", cell, (end,), reset_after), end)
    assert (kernel.shape[0], recurrent.shape[0], len(rest)) == (2, 3, int(bias))
    back = from_keras(cell, kernel, recurrent, rest[0] if rest else None)
    np.testing.assert_array_equal(back.weight_ih, end.weight_ih)
    np.testing.assert_array_equal(back.weight_hh, end.weight_hh)
    np.testing.assert_allclose(sum(back.biases()), sum(end.biases()))
