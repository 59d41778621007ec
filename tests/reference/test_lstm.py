"""The LSTM's scans: against a naive loop, between engines, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import ENGINES, assert_close
from scan_cases import (
    Case,
    check_engines_agree,
    check_gate,
    check_gradients,
    check_naive_loop,
    check_padding,
    scan_cases,
)

from l0gate.reference._engine import find_engine


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases("lstm"))
def test_a_scan_equals_a_naive_loop(engine: str, case: Case) -> None:
    check_naive_loop(engine, case)


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases("lstm"))
def test_gradients_match_differences(engine: str, case: Case) -> None:
    check_gradients(engine, case)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_engines_agree(dtype: type, data: st.DataObject) -> None:
    check_engines_agree(dtype, data.draw(scan_cases("lstm", dtype=dtype, hidden=20)))


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases("lstm"))
def test_padding_has_no_effect(engine: str, case: Case) -> None:
    check_padding(engine, case)


@given(case=scan_cases("lstm"))
def test_an_explicit_gate_equals_folded_columns(case: Case) -> None:
    check_gate(case)


@pytest.mark.parametrize("engine", ENGINES)
def test_large_values_saturate_without_warning(engine: str) -> None:
    for dtype in (np.float32, np.float64):
        gx = np.full((2, 1, 4), -1e4, dtype)
        gx[1] = 1e4
        weight, zero = np.zeros((4, 1), dtype), np.zeros((1, 1), dtype)
        with np.errstate(all="raise", under="ignore"):
            y, h, c, _ = find_engine(engine).lstm_scan(gx, weight, zero, zero)
        np.testing.assert_allclose(c, [[1.0]])
        np.testing.assert_allclose(y[:, 0, 0], [0, np.tanh(1)], rtol=1e-6)
        assert h.dtype == dtype


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_is_not_hidden(engine: str) -> None:
    for dtype in (np.float32, np.float64):
        gx = np.full((1, 1, 4), np.nan, dtype)
        zero = np.zeros((1, 1), dtype)
        y, *_ = find_engine(engine).lstm_scan(gx, np.zeros((4, 1), dtype), zero, zero)
        assert np.isnan(y).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_defaults_are_forward_in_full_length(engine: str) -> None:
    scans, rng = find_engine(engine), np.random.default_rng(0)
    weight, h, c = rng.standard_normal((8, 2)), *rng.standard_normal((2, 3, 2))
    gx, dy = rng.standard_normal((4, 3, 8)), rng.standard_normal((4, 3, 2))
    y, _, _, tape = expected = scans.lstm_scan(gx, weight, h, c, None, False)
    assert_close(scans.lstm_scan(gx, weight, h, c), expected)
    given = dy, h, c, weight, y, h, c, tape
    assert_close(scans.lstm_scan_backward(*given), scans.lstm_scan_backward(*given, None, False))
