"""Weights in the order of the C code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0gate.formats._c.arrays import LANES, blocked, blocks_of, c_array


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3))
def test_every_weight_is_where_its_block_says(hidden: int, gates: int, columns: int) -> None:
    matrix = np.arange(gates * hidden * columns, dtype="f4").reshape(-1, columns) + 1
    found = blocked(matrix, gates)
    assert found.shape == (blocks_of(hidden), columns, gates, LANES)
    for gate in range(gates):
        for neuron in range(hidden):
            block, lane = divmod(neuron, LANES)
            row = matrix[gate * hidden + neuron]
            np.testing.assert_array_equal(found[block, :, gate, lane], row)
    assert np.count_nonzero(found) == matrix.size


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_are_written_so_that_they_come_back(values: list[float]) -> None:
    array = np.array(values, np.float32)
    text = c_array("float", "a", array)
    body = text[text.index("{") + 1 : text.index("}")]
    back = [np.float32(part.strip().removesuffix("f")) for part in body.split(",")]
    np.testing.assert_array_equal(back, array)
    assert all("." in part or "e" in part for part in body.split(","))


def test_integers_stay_integers() -> None:
    assert "{\n    -127, 3\n}" in c_array("int8_t", "a", np.array([-127, 3], np.int8))


@pytest.mark.parametrize("size", [1, 8, 9])
def test_blocks_hold_all_neurons(size: int) -> None:
    assert (blocks_of(size) - 1) * LANES < size <= blocks_of(size) * LANES
