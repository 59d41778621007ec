"""Gates while they train: sampled values, gradients in closed form, and what a decision fixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from pruner_cases import LSTM_SIZES, NUMPY, fresh
from strategies import log_alphas

from l0gate import Budget, HardConcrete, Pruner


def freeze_arrays(tree: Any) -> Any:
    """Read-only copies, which catch hidden mutation."""
    if isinstance(tree, dict):
        return {key: freeze_arrays(value) for key, value in tree.items()}
    array = np.array(tree)
    array.flags.writeable = False
    return array


def test_noise_is_pure_and_moves_on() -> None:
    pruner, _, state = fresh(Budget(parameters=0.5))
    first, rng = pruner.noise(state, NUMPY.rng(3))
    again, _ = pruner.noise(state, NUMPY.rng(3))
    second, _ = pruner.noise(state, rng)
    for axis in LSTM_SIZES:
        np.testing.assert_array_equal(first[axis], again[axis])
        assert (first[axis] != second[axis]).all()
        assert ((first[axis] > 0) & (first[axis] < 1)).all()


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 999), sampled=st.booleans())
def test_pullback_is_the_transpose_of_gating(name: str, seed: int, sampled: bool) -> None:
    layout = CASES[name]
    parameters = arrays_for(layout, {axis: SIZES[axis] for axis in layout.axes}, seed)
    pruner = Pruner(layout)
    rng = np.random.default_rng(seed)
    # Gates well inside (0, 1), away from the clip's kinks.
    state = pruner.init(
        parameters,
        log_alpha={axis: rng.uniform(-0.3, 0.3, SIZES[axis]) for axis in layout.axes},
    )
    noise = {a: rng.uniform(0.4, 0.6, SIZES[a]) for a in layout.axes} if sampled else None
    weights = {n: rng.normal(size=v.shape) for n, v in parameters.items()}
    toward = {n: rng.normal(size=v.shape) for n, v in parameters.items()}
    toward_alpha = {a: rng.normal(size=SIZES[a]) for a in layout.axes}

    def value(step: float) -> float:
        moved = {n: v + step * toward[n] for n, v in parameters.items()}
        log_alpha = {a: v + step * toward_alpha[a] for a, v in state["log_alpha"].items()}
        folded = pruner.gate(moved, {**state, "log_alpha": log_alpha}, noise)
        return sum(float(np.vdot(folded[n], weights[n])) for n in folded)

    frozen = freeze_arrays(parameters), freeze_arrays(state)
    of_parameters, of_log_alpha = pruner.pullback(*frozen, noise, freeze_arrays(weights))
    found = sum(float(np.vdot(of_parameters[n], toward[n])) for n in parameters)
    found += sum(float(np.vdot(of_log_alpha[a], toward_alpha[a])) for a in layout.axes)
    assert found == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6, abs=1e-6)


@given(st.data(), st.floats(0.0, 1.0), st.booleans())
def test_penalty_gradient_is_the_derivative(data: Any, progress: float, by_budget: bool) -> None:
    if by_budget:
        pruner, _, state = fresh(Budget(parameters=0.3))
        state["multipliers"] = np.array([0.7, 3.0])
    else:
        pruner, _, state = fresh(strength=1e-3)
    log_alpha = {a: data.draw(log_alphas(n)) for a, n in LSTM_SIZES.items()}
    toward = {a: np.random.default_rng(0).normal(size=n) for a, n in LSTM_SIZES.items()}

    def value(step: float) -> float:
        moved = {a: v + step * toward[a] for a, v in log_alpha.items()}
        return float(pruner.penalty({**state, "log_alpha": moved}, progress))

    gradient = pruner.penalty_gradient({**state, "log_alpha": log_alpha}, progress)
    found = sum(float(np.vdot(gradient[a], toward[a])) for a in LSTM_SIZES)
    assert found == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6, abs=1e-8)


def test_a_selected_gate_is_fixed_whatever_the_noise() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.4))
    with pytest.warns(UserWarning, match="the gates stalled"):
        selected = pruner.select(state, parameters)
    noise, _ = pruner.noise(selected, NUMPY.rng(0))
    for axis, gate in pruner.gates(selected, noise).items():
        np.testing.assert_array_equal(gate, pruner.gates(selected)[axis])
    weights = {n: np.ones_like(v) for n, v in parameters.items()}
    _, of_log_alpha = pruner.pullback(parameters, selected, noise, weights)
    penalty = pruner.penalty_gradient(selected, 1.0)
    for axis in LSTM_SIZES:
        assert not of_log_alpha[axis].any()
        assert not penalty[axis].any()
    assert float(pruner.expected_size(selected)) == pruner.size(selected)
    # There is nothing left to steer: no penalty, and the multipliers rest.
    selected["multipliers"] = np.array([1.0, 1.0])
    assert float(pruner.penalty(selected, 0.1)) == 0.0
    assert pruner.update(selected, 0.1)["multipliers"].tolist() == [1.0, 1.0]


def test_a_decided_gate_no_longer_follows_log_alpha() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.4))
    selected = pruner.select(state, parameters)
    gates = pruner.gates(selected)
    low = {axis: np.full(n, -8.0) for axis, n in LSTM_SIZES.items()}
    for axis, gate in pruner.gates({**selected, "log_alpha": low}).items():
        np.testing.assert_array_equal(gate, gates[axis])


def test_the_order_of_a_states_axes_changes_nothing() -> None:
    """JAX sorts the keys of every dict that passes through its transformations."""
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    turned = {
        name: dict(reversed(value.items())) if isinstance(value, dict) else value
        for name, value in state.items()
    }
    assert list(turned["log_alpha"]) != list(state["log_alpha"])
    noise, _ = pruner.noise(state, NUMPY.rng(3))
    other, _ = pruner.noise(turned, NUMPY.rng(3))
    for axis in LSTM_SIZES:
        np.testing.assert_array_equal(noise[axis], other[axis])
    # All gates are equal, so that the order of the axes could break ties.
    for axis, n in LSTM_SIZES.items():
        turned["log_alpha"][axis] = state["log_alpha"][axis] = np.full(n, 3.0)
    kept = pruner.kept(pruner.select(state, parameters))
    turned_kept = pruner.kept(pruner.select(turned, parameters))
    assert list(kept) == list(turned_kept)
    for axis, index in kept.items():
        np.testing.assert_array_equal(index, turned_kept[axis])


def test_gates_may_use_the_median_rule() -> None:
    pruner, parameters, _ = fresh(gates=HardConcrete(rule="median"))
    log_alpha = {"x": np.array([-2.0, -1.0, 0.0, 1.0])}
    state = pruner.init(parameters, log_alpha=log_alpha)
    assert pruner.kept(state)["x"].tolist() == [1, 2, 3]
