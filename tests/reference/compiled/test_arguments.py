"""What kernels are given: shapes and dtypes that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.reference.compiled import scans
from l0gate.reference.compiled.arguments import contiguous, copy_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gx": np.zeros((2, 3, 8), np.float16)}, "`gx` has dtype float16"),
        ({"gx": np.zeros((2, 3, 9), np.float32)}, r"`gx` has shape \(2, 3, 9\)"),
        ({"weight_hh": np.zeros((8, 2))}, "`weight_hh` has dtype float64; expected float32"),
        ({"h0": np.zeros((1, 2), np.float32)}, r"`h0` has shape \(1, 2\); expected \(3, 2\)"),
        ({"c0": np.zeros((3, 1), np.float32)}, r"`c0` has shape \(3, 1\); expected \(3, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    zeros = {"gx": (2, 3, 8), "weight_hh": (8, 2), "h0": (3, 2), "c0": (3, 2)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    with pytest.raises(L0GateError, match=message):
        scans.lstm_scan(**arrays | change)


def test_arrays_are_handed_over_in_c_order():
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    plain, same = contiguous(x, x.T)
    assert plain.flags.c_contiguous
    assert np.shares_memory(same, x)  # whose transpose is in C order
    np.testing.assert_array_equal(plain, x)
    copy = copy_of(x)
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    assert not np.shares_memory(copy, x)
