"""Packed weights: every number once, padded with zeros, from where a cache line begins."""

from __future__ import annotations

import numpy as np
import pytest
from program_cases import DTYPES

from l0gate.reference.compiled.inference.packing import PACKERS, in_lines
from l0gate.reference.compiled.inference.plan import GRU, GRU_RESET_BEFORE, LINEAR, LSTM
from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.simd.memory import LINE


def numbers(*shapes, dtype):
    """Arrays with the numbers 1, 2, ..., each once."""
    arrays, first = [], 1
    for shape in shapes:
        size = int(np.prod(shape))
        arrays.append(np.arange(first, first + size, dtype=dtype).reshape(shape))
        first += size
    return arrays


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [1, 5, 16, 19])
@pytest.mark.parametrize("inputs", [3, 70])
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru before", "linear"])
def test_every_number_is_packed_once(kind, inputs, hidden, dtype):
    gates = {"lstm": 4, "linear": 1}.get(kind, 3)
    rows, after = gates * hidden, kind == "gru"
    shapes = [(rows, inputs), (rows, hidden), (rows,), (hidden,)]
    weight_ih, weight_hh, bias, bias_hn = given = numbers(*shapes, dtype=dtype)
    if kind == "linear":
        given = [weight_ih, bias]
        found, sizes, parts = PACKERS["linear"](*given)
        expected = LINEAR, ()
    elif kind == "lstm":
        given = [weight_ih, weight_hh, bias]
        found, sizes, parts = PACKERS["lstm"](*given)
        expected = LSTM, (hidden, hidden)
    else:
        given = given if after else given[:3]
        found, sizes, parts = PACKERS["gru"](weight_ih, weight_hh, bias, bias_hn, after)
        expected = GRU if after else GRU_RESET_BEFORE, (hidden,)
    assert (found, sizes) == expected
    packed = np.concatenate(parts)
    assert packed.dtype == dtype
    assert packed.size % lanes_of(np.dtype(dtype)) == 0
    np.testing.assert_array_equal(
        np.sort(packed[packed != 0]), np.sort(np.concatenate([a.ravel() for a in given]))
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1,), (3, 17), (64, 0, 5)])
def test_parts_lie_one_after_the_other_from_the_start_of_a_line(sizes, dtype):
    parts = numbers(*[(size,) for size in sizes], dtype=dtype)
    joined = in_lines(parts)
    assert joined.ctypes.data % LINE == 0
    np.testing.assert_array_equal(joined, np.concatenate(parts))
