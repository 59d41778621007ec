"""The penalty on the expected size, the multipliers, and the target they follow."""

from __future__ import annotations

import numpy as np
import pytest
from cases import arrays_for
from pruner_cases import LAYOUT, LSTM_SIZES, fresh

from l0gate import Budget, Pruner


def test_the_penalty_is_the_published_one() -> None:
    pruner, _, state = fresh(Budget(parameters=0.25, warmup=0.5))
    state["multipliers"] = np.array([2.0, 5.0])
    share = float(pruner.expected_size(state)) / pruner.cost.total
    final = pruner.limit / pruner.cost.total
    assert final == pytest.approx(0.25, abs=1 / pruner.cost.total)
    for progress, target in ((0.0, 1.0), (0.25, (1 + final) / 2), (0.5, final), (1.0, final)):
        assert pruner.target(progress) == pytest.approx(target)
        wanted = 2 * (share - target) + 5 * (share - target) ** 2
        assert float(pruner.penalty(state, progress)) == pytest.approx(wanted)
    paper, _, state = fresh(strength=0.5)
    assert float(paper.penalty(state, 0.3)) == pytest.approx(
        0.5 * float(paper.expected_size(state))
    )


def test_multipliers_move_once_per_advance_and_log_alpha_is_clamped() -> None:
    pruner, _, state = fresh(Budget(parameters=0.25, rate=(0.2, 2.0)))
    state["log_alpha"]["x"] = np.array([9.0, -9.0, 0.0, 1.0])
    excess = float(pruner.expected_size(state)) / pruner.cost.total - pruner.target(0.5)
    clamped = pruner.update(state, 0.0)
    assert clamped["log_alpha"]["x"].tolist() == [5, -8, 0, 1]
    assert clamped["multipliers"].tolist() == [0, 0]
    excess = float(pruner.expected_size(clamped)) / pruner.cost.total - pruner.target(0.5)
    moved = pruner.update(clamped, 0.5)
    np.testing.assert_allclose(moved["multipliers"], [0.2 * excess, 2 * excess**2], rtol=1e-12)
    again = pruner.update(moved, 0.5)
    np.testing.assert_array_equal(again["multipliers"], moved["multipliers"])
    assert pruner.update(again, 0.6)["multipliers"][1] > moved["multipliers"][1]


def test_the_controller_steers_the_expected_size_to_its_target() -> None:
    pruner, _, state = fresh(Budget(parameters=0.25, warmup=0.5))
    steps = 600
    for step in range(steps):
        progress = step / steps
        gradient = pruner.penalty_gradient(state, progress)
        log_alpha = {a: v - 0.06 * np.sign(gradient[a]) for a, v in state["log_alpha"].items()}
        state = pruner.update({**state, "log_alpha": log_alpha}, progress)
    share = float(pruner.expected_size(state)) / pruner.cost.total
    assert share == pytest.approx(0.25, abs=0.04)


def test_progress_in_double_precision_keeps_the_dtype_of_the_state() -> None:
    parameters = {n: v.astype("float32") for n, v in arrays_for(LAYOUT, LSTM_SIZES).items()}
    pruner = Pruner(LAYOUT, Budget(parameters=0.5))
    state = pruner.update(pruner.init(parameters), np.float64(0.5))
    assert {state[k].dtype.name for k in ("multipliers", "progress", "forced")} == {"float32"}


def test_the_target_falls_from_the_whole_to_the_budget() -> None:
    at_once, all_along, _ = (
        fresh(Budget(parameters=0.5, warmup=warmup, settle=1.0))[0] for warmup in (0, 1, 0.5)
    )
    final = at_once.limit / at_once.cost.total
    assert [at_once.target(p) for p in (0, 0.0, 1)] == [final] * 3
    assert [all_along.target(p) for p in (0.0, 0.5, 1.0)] == [1.0, 0.5 + 0.5 * final, final]
    assert fresh(strength=1.0)[0].target(0.5) == 1.0
    steps = np.array([0.0, 0.25, 0.5, 0.75])
    warm = fresh(Budget(parameters=0.5, warmup=0.5))[0].target(steps)
    np.testing.assert_allclose(warm, [1.0, 0.5 + 0.5 * final, final, final])


def test_what_is_decided_has_no_slope_and_the_rest_is_steered() -> None:
    pruner, parameters, state = fresh(strength=1.0)
    selected = pruner.select(state, parameters)
    for slope in pruner.penalty_gradient(selected, 0.5).values():
        assert not slope.any()
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    mask = {axis: np.zeros(n) for axis, n in LSTM_SIZES.items()}
    mask["h0"][:] = 1.0
    mask["h1"][1] = -1.0
    state = pruner.update({**state, "mask": mask}, 0.5)  # one neuron is still free
    assert state["multipliers"].any()
    for axis, slope in pruner.penalty_gradient(state, 0.5).items():
        assert np.flatnonzero(slope).tolist() == ([1] if axis == "h1" else [])
