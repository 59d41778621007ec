"""A fresh gate state, and log_alpha that a user gives."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import arrays_for
from pruner_cases import LAYOUT, LSTM_SIZES, NUMPY, fresh

from l0gate import Budget, L0GateError, Pruner


def test_a_fresh_state_is_open_and_undecided() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    np.testing.assert_array_equal(
        pruner.init(parameters)["log_alpha"]["x"], state["log_alpha"]["x"]
    )
    for axis, n in LSTM_SIZES.items():
        assert state["log_alpha"][axis].shape == (n,)
        assert len(set(state["log_alpha"][axis].tolist())) == n
    for name, value in pruner.gate(parameters, state).items():
        np.testing.assert_array_equal(value, parameters[name])
    assert not pruner.selected(state)
    assert pruner.size(state) == pruner.cost.total


def test_the_dtype_of_gates_follows_the_parameters() -> None:
    for dtype, wanted in (("float64", "float64"), ("float32", "float32"), ("float16", "float32")):
        parameters = {n: v.astype(dtype) for n, v in arrays_for(LAYOUT, LSTM_SIZES).items()}
        pruner = Pruner(LAYOUT)
        state = pruner.init(parameters, 0)
        assert state["log_alpha"]["x"].dtype == wanted
        noise, _ = pruner.noise(state, NUMPY.rng(1))
        folded = pruner.gate(parameters, state, noise)
        assert {value.dtype.name for value in folded.values()} == {dtype}


def test_bad_progress_log_alpha_and_models() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    for progress in (-0.1, 1.5, float("nan")):
        with pytest.raises(L0GateError, match=r"`progress` is .*; it must be in \[0, 1\]"):
            pruner.penalty(state, progress)
    state["log_alpha"]["h0"] = np.array([1.0, np.nan, 0, 0, np.inf])
    for action in (pruner.select, pruner.kept, lambda s: pruner.shrink(parameters, s)):
        with pytest.raises(L0GateError, match=r"`log_alpha\['h0'\]` is nan at neuron 1 \(2 of 5"):
            action(state)
    for values, message in (
        ({"y": np.zeros(3)}, "names the axis 'y'"),
        ({"x": "abc"}, "`log_alpha['x']` is 'abc'; it must be an array of numbers"),
        (5, "`log_alpha` is 5; it must map axes to arrays"),
        ({"x": np.zeros(3)}, "has shape (3,); the axis has 4"),
        ({"x": np.full(4, np.nan)}, "`log_alpha['x']` is nan at neuron 0"),
    ):
        with pytest.raises(L0GateError, match=re.escape(message)):
            pruner.init(parameters, log_alpha=values)
    with pytest.raises(L0GateError, match="the parameters belong to another model"):
        pruner.init(arrays_for(LAYOUT, {"x": 4, "h0": 5, "h1": 7}))
    with pytest.raises(L0GateError, match=r"names the parameter 'rnn.weight_hh_l1'"):
        pruner.init({n: v for n, v in parameters.items() if n != "rnn.weight_hh_l1"})
