"""A fresh gate state, and log_alpha that a user gives."""

from __future__ import annotations

import numpy as np
from cases import arrays_for
from pruner_cases import LAYOUT, LSTM_SIZES, NUMPY, fresh

from l0gate import Budget, Pruner


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
