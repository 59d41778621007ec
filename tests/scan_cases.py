"""Random inputs for the scans of one layer, what a scan must satisfy, and scans written naively."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from reference_cases import (
    ENGINES,
    assert_close,
    assert_gradient,
    dot,
    freeze,
    normal_like,
)

from l0gate.reference._engine import NUMPY, Engine, find_engine

Case = dict[str, Any]


@st.composite
def scan_cases(draw: st.DrawFn, *cells: str, dtype: Any = np.float64, hidden: int = 5) -> Case:
    """Arrays of a scan of one of the cells "lstm", "gru" and "gru_reset_before"."""
    cell = draw(st.sampled_from(cells))
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


def forward(engine: Engine, case: Case, **options: Any) -> tuple[Any, Any, Any]:
    """y, the last state and the tape."""
    where = {"lengths": case["lengths"], "reverse": case["reverse"], **options}
    if case["cell"] == "lstm":
        y, h, c, tape = engine.lstm_scan(
            case["gx"], case["weight_hh"], case["h0"], case["c0"], **where
        )
        return y, (h, c), tape
    y, h, tape = engine.gru_scan(
        case["gx"],
        case["weight_hh"],
        case["bias_hn"],
        case["h0"],
        case["cell"] == "gru",
        **where,
    )
    return y, (h,), tape


def backward(
    engine: Engine, case: Case, y: Any, tape: Any, dy: Any, dlast: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """dgx, dgh and the gradient of the initial state."""
    where = {"lengths": case["lengths"], "reverse": case["reverse"], **options}
    if case["cell"] == "lstm":
        dgx, dh0, dc0 = engine.lstm_scan_backward(
            dy, *dlast, case["weight_hh"], y, case["h0"], case["c0"], tape, **where
        )
        return dgx, dgx, (dh0, dc0)
    dgx, dgh, dh0 = engine.gru_scan_backward(
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


# What every scan must satisfy ---------------------------------------------------------------------


def check_naive_loop(engine: str, case: Case) -> None:
    """The scan equals a loop over sequences, steps and neurons in Python floats."""
    y, last, _ = forward(find_engine(engine), case)
    expected_y, expected_last = _naive_scan(case)
    assert_close(y, expected_y)
    assert_close(last, tuple(expected_last))


def check_gradients(engine: str, case: Case) -> None:
    """The gradients of gx and of the initial state match differences."""
    scans = find_engine(engine)
    y, last, tape = forward(scans, case)
    rng = np.random.default_rng(case["seed"])
    dy, dlast = freeze(normal_like(rng, y)), freeze(normal_like(rng, last))
    dgx, _, dinitial = backward(scans, case, y, tape, dy, dlast)

    def value(at: dict[str, Any]) -> float:
        y, last, _ = forward(scans, {**case, **at})
        return dot((y, last), (dy, dlast))

    names = ("h0", "c0") if case["cell"] == "lstm" else ("h0",)
    at = {"gx": case["gx"], **{name: case[name] for name in names}}
    gradient = {"gx": dgx, **dict(zip(names, dinitial, strict=True))}
    assert_gradient(value, at, gradient, case["seed"])


def check_engines_agree(dtype: Any, case: Case) -> None:
    """NumPy's and the compiled scans give the same, forward and backward."""
    case["weight_hh"] = case["weight_hh"] / dtype(np.sqrt(case["h0"].shape[1]))
    rng = np.random.default_rng(case["seed"])
    results = []
    for engine in ENGINES:
        scans = find_engine(engine)
        y, last, tape = forward(scans, case)
        if not results:
            dy, dlast = normal_like(rng, y), normal_like(rng, last)
        results.append((y, last, backward(scans, case, y, tape, dy, dlast)))
    assert_close(results[1], results[0], dtype)


def check_padding(engine: str, case: Case) -> None:
    """The values of gx and dy in the padding have no effect, and the results are 0 there."""
    scans = find_engine(engine)
    steps, batch, _ = case["gx"].shape
    lengths = np.full(batch, steps) if case["lengths"] is None else case["lengths"]
    padding = np.arange(steps)[:, None] >= lengths
    y, last, tape = forward(scans, case)
    dirty = {**case, "gx": np.where(padding[:, :, None], np.nan, case["gx"])}
    dirty_y, dirty_last, dirty_tape = forward(scans, dirty)
    assert_close((dirty_y, dirty_last), (y, last))
    assert not y[padding].any()

    dy, dlast = normal_like(np.random.default_rng(case["seed"]), (y, last))
    clean = backward(scans, case, y, tape, dy, dlast)
    dy[padding] = np.nan
    dirty_gradients = backward(scans, dirty, dirty_y, dirty_tape, dy, dlast)
    assert_close(dirty_gradients, clean)
    assert not clean[0][padding].any()
    assert not clean[1][padding].any()


def check_gate(case: Case) -> None:
    """An explicit gate equals a gate that is multiplied into the columns of `weight_hh`."""
    rng = np.random.default_rng(case["seed"])
    gate = rng.uniform(size=case["h0"].shape[1])
    folded = {**case, "weight_hh": case["weight_hh"] * gate}
    y, last, tape = forward(NUMPY, case, gate=gate)
    folded_y, folded_last, folded_tape = forward(NUMPY, folded)
    assert_close((y, last), (folded_y, folded_last))
    dy, dlast = normal_like(rng, (y, last))
    assert_close(
        backward(NUMPY, case, y, tape, dy, dlast, gate=gate),
        backward(NUMPY, folded, y, folded_tape, dy, dlast),
    )


# A scan without arrays ----------------------------------------------------------------------------


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
