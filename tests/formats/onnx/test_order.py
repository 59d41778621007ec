"""Axes through transposes, squeezes and reshapes."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.formats._onnx.order import (
    DIRECTIONS,
    FEATURES,
    from_onnx,
    reshaped,
    squeezed,
    to_onnx,
    transposed,
    unsqueezed,
)

T, B, D, F = ("0",), ("1",), (DIRECTIONS,), (FEATURES,)
OPEN = {"0": None, "1": None, DIRECTIONS: 2, FEATURES: 8}
FIXED = {"0": 7, "1": 2, DIRECTIONS: 2, FEATURES: 8}


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_blocks_go_both_ways(cell: str) -> None:
    rows = np.arange(24).reshape(12, 2)
    np.testing.assert_array_equal(from_onnx(cell, to_onnx(cell, rows)), rows)


def test_moves() -> None:
    assert transposed((T, B, F), [1, 0, 2]) == (B, T, F)
    assert transposed((T, B), None) == (B, T)
    assert transposed((T, B), [0, 0]) is None
    assert squeezed((T, (), B, F), [1]) == squeezed((T, (), B, F), None) == (T, B, F)
    assert squeezed((T, B), [0]) is None
    assert squeezed((T, B), [5]) is None
    assert unsqueezed((T, F), [1]) == (T, (), F)
    assert unsqueezed((T, F), [-1]) == (T, F, ())
    assert unsqueezed((T, F), [0, 0]) is None


@pytest.mark.parametrize(
    ("axes", "sizes", "wanted", "expected"),
    [
        ((T, B, D, F), OPEN, [0, 0, -1], (T, B, (DIRECTIONS, FEATURES))),
        ((T, B, D, F), FIXED, [7, 2, 16], (T, B, (DIRECTIONS, FEATURES))),
        ((T, B, F), OPEN, [-1, 8], (("0", "1"), F)),
        ((("0", "1"), F), FIXED, [7, 2, 8], (T, B, F)),
        ((T, (), B, F), OPEN, [0, 1, -1, 8], (T, (), B, F)),
        ((T, B, F), OPEN, [5, 3, 8], (T, B, F)),  # the sizes of one run, kept in the file
        ((T, B, F), OPEN, [15, 8], None),
        ((T, B, F), FIXED, [2, 7, 8], None),
        ((T, B, F), OPEN, [-1, -1], None),
        ((T, B, F), OPEN, [0, 0, 0, 0], None),
    ],
)
def test_reshapes(axes: object, sizes: object, wanted: list[int], expected: object) -> None:
    assert reshaped(axes, sizes, [(n, ()) for n in wanted]) == expected  # type: ignore[arg-type]


def test_reshapes_to_sizes_that_the_graph_computes() -> None:
    wanted = [(1, T), (1, B), (16, ())]
    assert reshaped((T, B, D, F), OPEN, wanted) == (T, B, (DIRECTIONS, FEATURES))
    assert reshaped((T, B, F), OPEN, [(1, ("0", "1")), (8, ())]) == (("0", "1"), F)
    assert reshaped((T, B, F), OPEN, [(1, B), (1, T), (8, ())]) is None
