"""What the scans share: the order of time steps, and the states that they start from."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from reference_cases import ENGINES, assert_close

from l0gate.reference import gru_scan, lstm_scan_backward
from l0gate.reference._engine import find_engine
from l0gate.reference._scan import gated, previous_states, sigmoid, time_steps


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
def test_previous_states_are_where_a_step_starts(engine: str, reverse: bool) -> None:
    """y and the initial state say where each step of a scan started."""
    rng = np.random.default_rng(0)
    gx, weight = rng.standard_normal((4, 3, 6)), rng.standard_normal((6, 2))
    h0, lengths = rng.standard_normal((3, 2)), np.array([4, 0, 2])
    scans = find_engine(engine)
    y, _, _ = scans.gru_scan(gx, weight, np.zeros(2), h0, True, lengths, reverse)
    previous = previous_states(y, h0, lengths, reverse)
    for b, length in enumerate(lengths):
        for t in range(length):
            again, _, _ = scans.gru_scan(
                gx[t : t + 1, b : b + 1], weight, np.zeros(2), previous[t, b : b + 1]
            )
            assert_close(again[0, 0], y[t, b])


@pytest.mark.parametrize("reverse", [False, True])
def test_time_steps_and_the_sequences_that_are_active(reverse: bool) -> None:
    order = [2, 1, 0] if reverse else [0, 1, 2]
    assert list(time_steps(3, None, reverse)) == [(t, None) for t in order]
    found = list(time_steps(3, np.array([0, 3, 1]), reverse))
    assert [t for t, _ in found] == order
    for t, active in found:
        np.testing.assert_array_equal(active, [[False], [True], [t < 1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_keeps_the_dtype_and_never_overflows(dtype: type) -> None:
    x = np.linspace(-9, 9, 101).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        ends = sigmoid(np.array([-np.inf, -1e30, 1e30, np.inf], dtype))
        found = sigmoid(x)
    np.testing.assert_array_equal(ends, [0, 0, 1, 1])
    assert_close(found, 1 / (1 + np.exp(-x)), dtype)


def test_a_gate_multiplies_neurons() -> None:
    x = np.ones((2, 3))
    assert gated(x, None) is x
    np.testing.assert_array_equal(gated(x, np.array([0, 0.5, 1])), [[0, 0.5, 1]] * 2)


def test_scans_are_found_under_their_former_names() -> None:
    """The module `_cells` of 0.1.0, which pickles of functions name, held all of them."""
    for scan in (gru_scan, lstm_scan_backward, sigmoid):
        former = f"cl0gate.reference._cells\n{scan.__name__}\n."
        assert pickle.loads(former.encode()) is scan
