"""The compiled GRU against plain loops over single sequences and against NumPy's scan."""

from __future__ import annotations

import pytest
from compiled_cases import CASES, DTYPES, RESET, assert_close, gru, make, naive
from hypothesis import given
from hypothesis import strategies as st

from l0gate.reference._engine import NUMPY
from l0gate.reference.compiled import scans


def gru_step(reset_after):
    def step(gx, p, h):
        H = len(h)
        r, z = (gx[: 2 * H] + p["weight_hh"][: 2 * H] @ h).sigmoid().chunk(2)
        weight = p["weight_hh"][2 * H :]
        recurrent = r * (weight @ h + p["bias_hn"]) if reset_after else weight @ (r * h)
        n = (gx[2 * H :] + recurrent).tanh()
        return ((1 - z) * n + z * h,)

    return step


@pytest.mark.parametrize("reset_after", RESET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gru_equals_loops_over_sequences(case, dtype, reset_after):
    arrays, options = make(case, 3, dtype)
    parameters = ("gx", "h0", "weight_hh", "bias_hn")
    expected = naive(arrays, options, gru_step(reset_after), parameters, ("h0",))
    assert_close(gru(scans, arrays, options, reset_after), expected, dtype)


shapes = st.tuples(
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 50),
    st.sampled_from([None, "random"]),
    st.booleans(),
)


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_any_shape_equals_the_numpy_scan(shape, seed, dtype):
    arrays, options = make(shape, 3, dtype, seed)
    for reset_after in RESET:
        found = gru(scans, arrays, options, reset_after)
        assert_close(found, gru(NUMPY, arrays, options, reset_after), dtype)
