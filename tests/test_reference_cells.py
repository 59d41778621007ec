"""The scans: against a naive loop, between engines, and their gradients."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import (
    ENGINES,
    assert_close,
    assert_gradient,
    dot,
    freeze,
    normal_like,
)

from l0gate.reference import _cells
from l0gate.reference._build import find_scans

CELLS = ("lstm", "gru", "gru_reset_before")


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _naive_step(
    cell: str, gx: np.ndarray, weight: np.ndarray, bias_hn: np.ndarray, state: list[list[float]]
) -> list[list[float]]:
    """One step of one sequence, neuron by neuron, in Python floats."""
    h, hidden = state[0], len(state[0])

    def product(row: int, vector: list[float]) -> float:
        return sum(float(weight[row, k]) * vector[k] for k in range(hidden))

    if cell == "lstm":
        pre = [
            [float(gx[b * hidden + j]) + product(b * hidden + j, h) for b in range(4)]
            for j in range(hidden)
        ]
        c = [
            _sigmoid(f) * state[1][j] + _sigmoid(i) * math.tanh(g)
            for j, (i, f, g, _) in enumerate(pre)
        ]
        return [[_sigmoid(pre[j][3]) * math.tanh(c[j]) for j in range(hidden)], c]
    r = [_sigmoid(float(gx[j]) + product(j, h)) for j in range(hidden)]
    z = [_sigmoid(float(gx[hidden + j]) + product(hidden + j, h)) for j in range(hidden)]
    new = []
    for j in range(hidden):
        row = 2 * hidden + j
        if cell == "gru":
            recurrent = r[j] * (product(row, h) + float(bias_hn[j]))
        else:
            recurrent = product(row, [a * b for a, b in zip(r, h, strict=True)])
        n = math.tanh(float(gx[row]) + recurrent)
        new.append((1 - z[j]) * n + z[j] * h[j])
    return [new]


def _naive_scan(case: dict[str, Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    gx = case["gx"]
    steps, batch, _ = gx.shape
    lengths = [steps] * batch if case["lengths"] is None else case["lengths"]
    y = np.zeros((steps, batch, case["h0"].shape[1]))
    last = [part.copy() for part in _initial(case)]
    for b in range(batch):
        state = [[float(value) for value in part[b]] for part in _initial(case)]
        order = range(lengths[b])
        for t in reversed(order) if case["reverse"] else order:
            state = _naive_step(case["cell"], gx[t, b], case["weight_hh"], case["bias_hn"], state)
            y[t, b] = state[0]
        for part, values in zip(last, state, strict=True):
            part[b] = values
    return y, last


def _initial(case: dict[str, Any]) -> list[np.ndarray]:
    return [case["h0"], case["c0"]] if case["cell"] == "lstm" else [case["h0"]]


def _forward(scans: ModuleType, case: dict[str, Any], **options: Any) -> tuple[Any, Any, Any]:
    """y, the last state and the tape."""
    where = {"lengths": case["lengths"], "reverse": case["reverse"], **options}
    if case["cell"] == "lstm":
        y, h, c, tape = scans.lstm_scan(
            case["gx"], case["weight_hh"], case["h0"], case["c0"], **where
        )
        return y, (h, c), tape
    y, h, tape = scans.gru_scan(
        case["gx"],
        case["weight_hh"],
        case["bias_hn"],
        case["h0"],
        case["cell"] == "gru",
        **where,
    )
    return y, (h,), tape


def _backward(
    scans: ModuleType, case: dict[str, Any], y: Any, tape: Any, dy: Any, dlast: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """dgx, dgh and the gradient of the initial state."""
    where = {"lengths": case["lengths"], "reverse": case["reverse"], **options}
    if case["cell"] == "lstm":
        dgx, dh0, dc0 = scans.lstm_scan_backward(
            dy, *dlast, case["weight_hh"], y, case["h0"], case["c0"], tape, **where
        )
        return dgx, dgx, (dh0, dc0)
    dgx, dgh, dh0 = scans.gru_scan_backward(
        dy,
        *dlast,
        case["weight_hh"],
        case["bias_hn"],
        y,
        case["h0"],
        tape,
        case["cell"] == "gru",
        **where,
    )
    return dgx, dgh, (dh0,)


@st.composite
def _cases(draw: st.DrawFn, dtype: Any = np.float64, hidden: int = 5) -> dict[str, Any]:
    cell = draw(st.sampled_from(CELLS))
    blocks = 4 if cell == "lstm" else 3
    steps, batch = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    size = draw(st.integers(1, hidden))
    rng = np.random.default_rng(seed := draw(st.integers(0, 2**32 - 1)))
    arrays = {
        "gx": rng.standard_normal((steps, batch, blocks * size)),
        "weight_hh": rng.standard_normal((blocks * size, size)),
        "bias_hn": rng.standard_normal(size),
        "h0": rng.standard_normal((batch, size)),
        "c0": rng.standard_normal((batch, size)),
    }
    return {
        "cell": cell,
        "seed": seed,
        "lengths": rng.integers(0, steps + 1, batch) if draw(st.booleans()) else None,
        "reverse": draw(st.booleans()),
        **freeze({name: array.astype(dtype) for name, array in arrays.items()}),
    }


@pytest.mark.parametrize("engine", ENGINES)
@given(case=_cases())
def test_scans_follow_a_naive_loop(engine: str, case: dict[str, Any]) -> None:
    y, last, _ = _forward(find_scans(engine), case)
    expected_y, expected_last = _naive_scan(case)
    assert_close(y, expected_y)
    assert_close(last, tuple(expected_last))


@pytest.mark.parametrize("engine", ENGINES)
@given(case=_cases())
def test_gradients_match_differences(engine: str, case: dict[str, Any]) -> None:
    scans = find_scans(engine)
    y, last, tape = _forward(scans, case)
    rng = np.random.default_rng(case["seed"])
    dy, dlast = freeze(normal_like(rng, y)), freeze(normal_like(rng, last))
    dgx, _, dinitial = _backward(scans, case, y, tape, dy, dlast)

    def value(at: dict[str, Any]) -> float:
        y, last, _ = _forward(scans, {**case, **at})
        return dot((y, last), (dy, dlast))

    names = ("h0", "c0") if case["cell"] == "lstm" else ("h0",)
    at = {"gx": case["gx"], **{name: case[name] for name in names}}
    gradient = {"gx": dgx, **dict(zip(names, dinitial, strict=True))}
    assert_gradient(value, at, gradient, case["seed"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_engines_agree(dtype: type, data: st.DataObject) -> None:
    case = data.draw(_cases(dtype, hidden=20))
    case["weight_hh"] = case["weight_hh"] / dtype(np.sqrt(case["h0"].shape[1]))
    rng = np.random.default_rng(case["seed"])
    results = []
    for engine in ENGINES:
        scans = find_scans(engine)
        y, last, tape = _forward(scans, case)
        if not results:
            dy, dlast = normal_like(rng, y), normal_like(rng, last)
        results.append((y, last, _backward(scans, case, y, tape, dy, dlast)))
    assert_close(results[1], results[0], dtype)


@pytest.mark.parametrize("engine", ENGINES)
@given(case=_cases())
def test_padding_is_silent(engine: str, case: dict[str, Any]) -> None:
    """Whatever stands in the padding of gx and dy reaches nothing."""
    scans = find_scans(engine)
    steps, batch, _ = case["gx"].shape
    lengths = np.full(batch, steps) if case["lengths"] is None else case["lengths"]
    padding = np.arange(steps)[:, None] >= lengths
    y, last, tape = _forward(scans, case)
    dirty = {**case, "gx": np.where(padding[:, :, None], np.nan, case["gx"])}
    dirty_y, dirty_last, dirty_tape = _forward(scans, dirty)
    assert_close((dirty_y, dirty_last), (y, last))
    assert not y[padding].any()

    dy, dlast = normal_like(np.random.default_rng(case["seed"]), (y, last))
    clean = _backward(scans, case, y, tape, dy, dlast)
    dy[padding] = np.nan
    dirty_gradients = _backward(scans, dirty, dirty_y, dirty_tape, dy, dlast)
    assert_close(dirty_gradients, clean)
    assert not clean[0][padding].any()
    assert not clean[1][padding].any()


@given(case=_cases())
def test_an_explicit_gate_equals_folded_columns(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    gate = rng.uniform(size=case["h0"].shape[1])
    folded = {**case, "weight_hh": case["weight_hh"] * gate}
    y, last, tape = _forward(_cells, case, gate=gate)
    folded_y, folded_last, folded_tape = _forward(_cells, folded)
    assert_close((y, last), (folded_y, folded_last))
    dy, dlast = normal_like(rng, (y, last))
    assert_close(
        _backward(_cells, case, y, tape, dy, dlast, gate=gate),
        _backward(_cells, folded, y, folded_tape, dy, dlast),
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
def test_previous_states_are_where_a_step_starts(engine: str, reverse: bool) -> None:
    """y and the initial state say where each step of a scan started."""
    rng = np.random.default_rng(0)
    gx, weight = rng.standard_normal((4, 3, 6)), rng.standard_normal((6, 2))
    h0, lengths = rng.standard_normal((3, 2)), np.array([4, 0, 2])
    scans = find_scans(engine)
    y, _, _ = scans.gru_scan(gx, weight, np.zeros(2), h0, True, lengths, reverse)
    previous = _cells.previous_states(y, h0, lengths, reverse)
    for b, length in enumerate(lengths):
        for t in range(length):
            again, _, _ = scans.gru_scan(
                gx[t : t + 1, b : b + 1], weight, np.zeros(2), previous[t, b : b + 1]
            )
            assert_close(again[0, 0], y[t, b])


@pytest.mark.parametrize("engine", ENGINES)
def test_large_values_saturate_without_warning(engine: str) -> None:
    for dtype in (np.float32, np.float64):
        gx = np.full((2, 1, 4), -1e4, dtype)
        gx[1] = 1e4
        weight, zero = np.zeros((4, 1), dtype), np.zeros((1, 1), dtype)
        with np.errstate(all="raise", under="ignore"):
            y, h, c, _ = find_scans(engine).lstm_scan(gx, weight, zero, zero)
        np.testing.assert_allclose(c, [[1.0]])
        np.testing.assert_allclose(y[:, 0, 0], [0, np.tanh(1)], rtol=1e-6)
        assert h.dtype == dtype


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_is_not_hidden(engine: str) -> None:
    for dtype in (np.float32, np.float64):
        gx = np.full((1, 1, 4), np.nan, dtype)
        zero = np.zeros((1, 1), dtype)
        y, *_ = find_scans(engine).lstm_scan(gx, np.zeros((4, 1), dtype), zero, zero)
        assert np.isnan(y).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_defaults_are_forward_in_full_length_with_reset_after(engine: str) -> None:
    scans, rng = find_scans(engine), np.random.default_rng(0)
    weight, h, c = rng.standard_normal((8, 2)), *rng.standard_normal((2, 3, 2))
    gx, dy = rng.standard_normal((4, 3, 8)), rng.standard_normal((4, 3, 2))
    y, _, _, tape = expected = scans.lstm_scan(gx, weight, h, c, None, False)
    assert_close(scans.lstm_scan(gx, weight, h, c), expected)
    given = dy, h, c, weight, y, h, c, tape
    assert_close(scans.lstm_scan_backward(*given), scans.lstm_scan_backward(*given, None, False))
    gx, weight, bias = gx[..., :6], weight[:6], rng.standard_normal(2)
    y, _, tape = expected = scans.gru_scan(gx, weight, bias, h, True, None, False)
    assert_close(scans.gru_scan(gx, weight, bias, h), expected)
    given = dy, h, weight, bias, y, h, tape
    assert_close(
        scans.gru_scan_backward(*given), scans.gru_scan_backward(*given, True, None, False)
    )


def test_engines_are_what_they_are_called() -> None:
    assert find_scans("numpy") is _cells
    assert find_scans("numba") is find_scans("auto") is not _cells
