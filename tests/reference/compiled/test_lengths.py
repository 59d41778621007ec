"""Numbers of steps: what is refused, and which rows take part in a step."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.reference.compiled import scans
from l0gate.reference.compiled.lengths import active_rows, step_counts
from l0gate.reference.compiled.simd.memory import address, keep


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": [1, 2]}, r"`lengths` has shape \(2,\); expected \(3,\)"),
        ({"lengths": [1, 2, 3]}, r"`lengths` is \[1 2 3\]; each must be within 0..2"),
        ({"lengths": [1, 2, -1]}, r"each must be within 0..2"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(change, message):
    zeros = {"gx": (2, 3, 8), "weight_hh": (8, 2), "h0": (3, 2), "c0": (3, 2)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    with pytest.raises(L0GateError, match=message):
        scans.lstm_scan(**arrays | change)


def test_without_lengths_every_sequence_has_all_steps():
    assert step_counts(None, 5, 3).tolist() == [5, 5, 5]
    given = np.array([5, 0, 2], np.int32)
    counts = step_counts(given, 5, 3)
    assert counts.tolist() == [5, 0, 2]
    assert counts.dtype == np.int64


@numba.njit
def rows(t, lengths):
    found = active_rows(t, address(lengths), len(lengths))
    keep(lengths)
    return found


@pytest.mark.parametrize("lengths", [[0, 3, 1, 2, 0], [2, 2], [0, 0], []])
def test_the_range_of_rows_is_the_smallest_with_all_that_are_active(lengths):
    for t in range(4):
        low, high = rows(t, np.array(lengths, np.int64))
        active = [row for row, length in enumerate(lengths) if t < length]
        assert list(range(low, high)) == (list(range(active[0], active[-1] + 1)) if active else [])
