"""The GRU's scans: against a naive loop, between engines, and their gradients."""

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

GRUS = "gru", "gru_reset_before"


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases(*GRUS))
def test_a_scan_equals_a_naive_loop(engine: str, case: Case) -> None:
    check_naive_loop(engine, case)


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases(*GRUS))
def test_gradients_match_differences(engine: str, case: Case) -> None:
    check_gradients(engine, case)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_engines_agree(dtype: type, data: st.DataObject) -> None:
    check_engines_agree(dtype, data.draw(scan_cases(*GRUS, dtype=dtype, hidden=20)))


@pytest.mark.parametrize("engine", ENGINES)
@given(case=scan_cases(*GRUS))
def test_padding_has_no_effect(engine: str, case: Case) -> None:
    check_padding(engine, case)


@given(case=scan_cases(*GRUS))
def test_an_explicit_gate_equals_folded_columns(case: Case) -> None:
    check_gate(case)


@pytest.mark.parametrize("engine", ENGINES)
def test_defaults_are_forward_in_full_length_with_reset_after(engine: str) -> None:
    scans, rng = find_engine(engine), np.random.default_rng(0)
    weight, h = rng.standard_normal((6, 2)), rng.standard_normal((3, 2))
    gx, dy = rng.standard_normal((4, 3, 6)), rng.standard_normal((4, 3, 2))
    bias = rng.standard_normal(2)
    y, _, tape = expected = scans.gru_scan(gx, weight, bias, h, True, None, False)
    assert_close(scans.gru_scan(gx, weight, bias, h), expected)
    given = dy, h, weight, bias, y, h, tape
    assert_close(
        scans.gru_scan_backward(*given), scans.gru_scan_backward(*given, True, None, False)
    )
