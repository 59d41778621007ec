"""The compiled LSTM against plain loops over single sequences and against NumPy's scan."""

from __future__ import annotations

import pytest
from compiled_cases import CASES, DTYPES, assert_close, lstm, make, naive
from hypothesis import given
from hypothesis import strategies as st

from l0gate.reference._engine import NUMPY
from l0gate.reference.compiled import scans


def lstm_step(gx, p, h, c):
    i, f, g, o = (gx + p["weight_hh"] @ h).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lstm_equals_loops_over_sequences(case, dtype):
    arrays, options = make(case, 4, dtype)
    expected = naive(arrays, options, lstm_step, ("gx", "h0", "c0"), ("h0", "c0"))
    assert_close(lstm(scans, arrays, options), expected, dtype)


shapes = st.tuples(
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 50),
    st.sampled_from([None, "random"]),
    st.booleans(),
)


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_any_shape_equals_the_numpy_scan(shape, seed, dtype):
    arrays, options = make(shape, 4, dtype, seed)
    assert_close(lstm(scans, arrays, options), lstm(NUMPY, arrays, options), dtype)
