from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from strategies import log_alphas

import l0gate
from l0gate import Budget, HardConcrete, L0GateError, Layout, Pruner
from l0gate._selection import warn_of_stall
from l0gate.layout.fold import fold, group_norms

NUMPY = l0gate.get_backend("numpy")
LAYOUT = Layout.lstm(2)
LSTM_SIZES = {"x": 4, "h0": 5, "h1": 6}


pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


def fresh(budget: Budget | None = None, **options: Any) -> tuple[Pruner, dict, dict]:
    pruner = Pruner(LAYOUT, budget, **options)
    parameters = arrays_for(LAYOUT, LSTM_SIZES)
    return pruner, parameters, pruner.init(parameters, 0)


def freeze_arrays(tree: Any) -> Any:
    """Read-only copies, which catch hidden mutation."""
    if isinstance(tree, dict):
        return {key: freeze_arrays(value) for key, value in tree.items()}
    array = np.array(tree)
    array.flags.writeable = False
    return array


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


@pytest.mark.parametrize("name", CASES)
def test_selection_meets_the_budget_and_shrinking_has_its_size(name: str) -> None:
    layout = CASES[name]
    parameters = arrays_for(layout, {axis: SIZES[axis] for axis in layout.axes})
    pruner = Pruner(layout, Budget(parameters=0.6))
    rng = np.random.default_rng(0)
    log_alpha = {axis: rng.normal(0, 3, SIZES[axis]) for axis in layout.axes}
    state = pruner.init(parameters, log_alpha=log_alpha)
    selected = pruner.select(state, parameters)
    assert pruner.selected(selected)
    small, kept = pruner.shrink(parameters, selected)
    size = sum(
        part.size
        for value in small.values()
        for part in (value if isinstance(value, tuple) else [value])
    )
    assert size == pruner.size(selected) <= 0.6 * pruner.cost.total
    for axis, index in kept.items():
        assert len(index) == layout.solve(small)[axis]
        # Every neuron that stays carries something.
        assert (pruner.gates(selected)[axis][index] > 0).all()
        assert (np.delete(pruner.gates(selected)[axis], index) == 0).all()


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


def test_selection_counts_what_it_forced() -> None:
    pruner, parameters, _ = fresh(Budget(parameters=1.0))
    log_alpha = {"x": np.array([2.0, -5, -6, 3]), "h0": np.full(5, 2.0), "h1": np.full(6, 2.0)}
    state = pruner.init(parameters, log_alpha=log_alpha)
    opened = pruner.select(state, parameters)
    assert opened["forced"].tolist() == [2, 0]
    assert (pruner.gates(opened)["x"] > 0).all()
    closed = pruner.select(state, parameters, reopen=False)
    assert closed["forced"].tolist() == [0, 0]
    assert pruner.kept(closed)["x"].tolist() == [0, 3]
    # What was open stays as it was, soft gates too.
    for axis, gate in pruner.gates(state).items():
        was_open = gate > 0
        np.testing.assert_array_equal(pruner.gates(opened)[axis][was_open], gate[was_open])
        np.testing.assert_array_equal(pruner.gates(closed)[axis], gate)


@pytest.mark.filterwarnings("ignore:.*open neurons were cut", "ignore:every gate of axis")
def test_only_selection_that_may_reopen_opens_an_axis_that_closed() -> None:
    pruner, parameters, _ = fresh(Budget(parameters=0.5))
    log_alpha = {"x": np.array([-5.0, -4, -6, -7])}
    state = pruner.init(parameters, log_alpha=log_alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the gates stalled")
        opened = pruner.select(state, parameters)
    assert pruner.gates(opened)["x"].max() == 0.5
    with pytest.warns(UserWarning, match="every gate of axis 'x' is closed; its best neuron, 1"):
        closed = pruner.select(state, parameters, reopen=False)
    assert not pruner.gates(closed)["x"].any()
    assert closed["forced"][0] == 0
    settled = pruner.settle(state, parameters)
    for axis, gate in pruner.gates(closed).items():
        np.testing.assert_array_equal(pruner.gates(settled)[axis], gate)


def test_selection_leaves_what_was_decided() -> None:
    pruner, parameters, state = fresh(Budget(parameters=1.0))
    mask = {axis: np.full(n, -1.0) for axis, n in LSTM_SIZES.items()}
    mask["h0"] = np.array([0.0, 1.0, 0.25, -1.0, -1.0])
    decided = pruner.select({**state, "mask": mask}, parameters)
    assert pruner.gates(decided)["h0"].tolist() == [0.0, 1.0, 0.25, 1.0, 1.0]
    assert pruner.kept(decided)["h1"].tolist() == list(range(6))


@pytest.mark.filterwarnings("ignore:.*open neurons were cut", "ignore:every gate of axis")
def test_gates_of_one_height_are_chosen_by_the_norm_of_their_weights() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    norms = group_norms(LAYOUT, parameters, NUMPY)
    same = {axis: np.full(n, 2.0) for axis, n in LSTM_SIZES.items()}
    state = pruner.init(parameters, log_alpha=same)
    for kept in (
        pruner.kept(pruner.select(state, parameters)),
        pruner.kept(pruner.settle(state, parameters)),
        pruner.shrink(parameters, state)[1],
    ):
        for axis, index in kept.items():
            assert set(index) == set(np.argsort(-norms[axis])[: len(index)])
    for axis, index in pruner.kept(pruner.select(state)).items():
        assert index.tolist() == list(range(len(index))), axis


def test_a_decided_gate_no_longer_follows_log_alpha() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.4))
    selected = pruner.select(state, parameters)
    gates = pruner.gates(selected)
    low = {axis: np.full(n, -8.0) for axis, n in LSTM_SIZES.items()}
    for axis, gate in pruner.gates({**selected, "log_alpha": low}).items():
        np.testing.assert_array_equal(gate, gates[axis])


def test_gates_that_were_not_decided_by_selection_are_reported() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.4))
    ones = {axis: np.ones(n) for axis, n in LSTM_SIZES.items()}
    with pytest.warns(UserWarning, match="above the budget of .*: its gates were not decided by"):
        pruner.shrink(parameters, {**state, "mask": ones})


def test_selection_without_a_budget_changes_nothing() -> None:
    pruner, parameters, _ = fresh(strength=1.0)
    log_alpha = {"x": np.array([-2.2, -2.3, 3, -5]), "h0": np.full(5, 2.0), "h1": np.full(6, 2.0)}
    state = pruner.init(parameters, log_alpha=log_alpha)
    selected = pruner.select(state, parameters)
    assert selected["forced"].tolist() == [0, 0]
    for axis, gate in pruner.gates(state).items():
        np.testing.assert_array_equal(pruner.gates(selected)[axis], gate)


def test_an_axis_that_costs_nothing_is_not_reopened() -> None:
    pruner = Pruner(LAYOUT, Budget(parameters=0.5, of=["decoder.weight"]))
    parameters = arrays_for(LAYOUT, LSTM_SIZES)
    log_alpha = {"x": np.array([3.0, -5, 3, -5])}
    state = pruner.select(pruner.init(parameters, log_alpha=log_alpha), parameters)
    assert pruner.kept(state)["x"].tolist() == [0, 2]
    assert len(pruner.kept(state)["h1"]) == 3


def test_padding_above_the_budget_is_reported() -> None:
    sizes = {"x": 4, "h0": 6, "h1": 6}
    parameters = arrays_for(LAYOUT, sizes)
    pruner = Pruner(LAYOUT, Budget(parameters=0.5))
    log_alpha = {"h0": np.full(6, 4.0), "h1": np.array([4.0, 3, -7, -7, -7, -7])}
    state = pruner.select(pruner.init(parameters, log_alpha=log_alpha), parameters, reopen=False)
    with pytest.warns(UserWarning, match="above the budget of .*because `equal` pads"):
        _, kept = pruner.shrink(parameters, state, equal=[("h0", "h1")])
    assert len(kept["h0"]) == len(kept["h1"])


def test_the_small_model_shares_no_memory() -> None:
    pruner, parameters, state = fresh()
    small, _ = pruner.shrink(parameters, state)
    for name, value in small.items():
        assert not np.shares_memory(value, parameters[name]), name
    given = {"x": np.zeros(4)}
    state = pruner.init(parameters, log_alpha=given)
    assert not np.shares_memory(state["log_alpha"]["x"], given["x"])


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


def test_a_model_of_exactly_the_budget_is_not_above_it() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.6))
    size = pruner.size(pruner.select(state, parameters))
    exact, _, state = fresh(Budget(parameters=size))
    state = exact.select(state, parameters)
    assert exact.size(state) == exact.limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact.shrink(parameters, state)


def test_shrinking_an_unselected_state_only_closes_and_says_so() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.4))
    with pytest.warns(UserWarning, match=r"\d+ open neurons were cut to meet the budget"):
        small, kept = pruner.shrink(parameters, state)
    assert pruner.cost.at({a: len(i) for a, i in kept.items()}) <= 0.4 * pruner.cost.total
    full = fold(LAYOUT, parameters, pruner.gates(state), NUMPY)
    index = np.ix_(np.arange(3), kept["h1"])
    np.testing.assert_array_equal(small["decoder.weight"], full["decoder.weight"][index])


def test_an_axis_that_would_lose_every_neuron_keeps_its_best() -> None:
    pruner, parameters, _ = fresh()
    log_alpha = {"x": np.array([-5.0, -4, -6, -7])}
    state = pruner.init(parameters, log_alpha=log_alpha)
    with pytest.warns(UserWarning, match="every gate of axis 'x' is closed; its best neuron, 1"):
        small, kept = pruner.shrink(parameters, state)
    assert kept["x"].tolist() == [1]
    assert not small["rnn.weight_ih_l0"].any()


def test_frozen_axes_stay_whole_and_ungated() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.6), freeze=["h0"])
    assert (pruner.gates(state)["h0"] == 1).all()
    with pytest.warns(UserWarning, match="stalled"):
        selected = pruner.select(state, parameters)
    assert len(pruner.kept(selected)["h0"]) == 5
    assert pruner.size(selected) <= 0.6 * pruner.cost.total
    with pytest.raises(L0GateError, match="`log_alpha` names the axis 'h0'; gates are on x, h1"):
        pruner.init(parameters, log_alpha={"h0": np.zeros(5)})
    with pytest.raises(L0GateError, match="`freeze` names the axis 'y'"):
        fresh(freeze=["y"])


def test_equal_counts_by_selection_and_by_padding() -> None:
    rng = np.random.default_rng(2)
    sizes = {"x": 4, "h0": 6, "h1": 6}
    parameters = arrays_for(LAYOUT, sizes)
    log_alpha = {a: rng.normal(-1, 3, n) for a, n in sizes.items()}
    log_alpha["h0"][:3] = -5.0
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), equal=[("h0", "h1")])
    state = pruner.select(pruner.init(parameters, log_alpha=log_alpha), parameters)
    kept = pruner.kept(state)
    assert len(kept["h0"]) == len(kept["h1"])
    free = Pruner(LAYOUT)
    state = free.init(parameters, log_alpha=log_alpha)
    ragged, padded = free.kept(state), free.kept(state, equal=[("h0", "h1")])
    assert len(ragged["h0"]) != len(ragged["h1"])
    assert len(padded["h0"]) == len(padded["h1"]) == max(len(ragged["h0"]), len(ragged["h1"]))
    for axis in ("h0", "h1"):
        extra = np.setdiff1d(padded[axis], ragged[axis])
        assert (free.gates(state)[axis][extra] == 0).all()
    for bad, message in (
        ("h0", "it must be lists of axes"),
        (("h0", "h1"), "it must be lists of axes"),
        ([("h0", "h1"), ("h1", "x")], "the axis 'h1' stands twice"),
    ):
        with pytest.raises(L0GateError, match=message):
            fresh(equal=bad)
    with pytest.raises(L0GateError, match="of which only some are frozen"):
        fresh(equal=[("h0", "h1")], freeze=["h0"])
    with pytest.raises(L0GateError, match="`equal` names the axis 'q'"):
        free.kept(state, equal=[("q",)])
    with pytest.raises(L0GateError, match="whose sizes differ"):
        fresh(equal=[("h0", "x")])
    with pytest.raises(L0GateError, match="whose sizes differ"):
        free.kept(state, equal=[("h0", "x")])
    with pytest.raises(L0GateError, match="`equal` names the axis 'z'"):
        fresh(equal=[("h0", "z")])


def test_saturated_gates_are_warned_about() -> None:
    pruner, parameters, _ = fresh(Budget(parameters=0.9))
    low = {a: np.full(n, -8.0) for a, n in LSTM_SIZES.items()}
    with pytest.warns(UserWarning, match=r"saturated: 100% of them sit at log_alpha = -8 \(closed"):
        pruner.select(pruner.init(parameters, log_alpha=low), parameters)
    # Gates that are decided may sit anywhere.
    middle = pruner.init(parameters, log_alpha={"h1": np.zeros(6)})
    mask = {axis: np.full(n, float(axis == "x")) for axis, n in LSTM_SIZES.items()}
    mask["h1"][:] = -1.0
    state = {**middle, "log_alpha": {**low, "h1": np.linspace(-1, 1, 6)}, "mask": mask}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner.select(state, parameters)


def test_a_stall_is_measured_as_a_share_of_the_dense_model() -> None:
    pruner, parameters, _ = fresh(Budget(parameters=0.5))
    wide = pruner.init(parameters, log_alpha={a: np.full(n, 7.0) for a, n in LSTM_SIZES.items()})
    told = "the expected size is 100.0% of the dense model and the budget 49.9%"
    with pytest.warns(UserWarning, match=told):
        pruner.select(wide, parameters)
    near = np.array([7.0, -7.0])
    log_alpha = {"x": np.tile(near, 2), "h0": np.append(np.tile(near, 2), -7.0)}
    state = pruner.init(parameters, log_alpha={**log_alpha, "h1": np.tile(near, 3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner.select(state, parameters)


def test_gates_that_lead_to_the_budget_are_not_warned_about() -> None:
    gates = HardConcrete()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (gates.highest - 0.5, gates.lowest + 0.5):
            warn_of_stall(gates, np.full(3, value), 0.55, 0.5)
        warn_of_stall(gates, np.zeros(0), 0.5, 0.5)
    for value, word in ((gates.highest, "open"), (gates.lowest, "closed")):
        with pytest.warns(UserWarning, match=rf"log_alpha = {value:g} \({word}\)"):
            warn_of_stall(gates, np.array([value]), 0.5, 0.5)


BAD = [
    (lambda: Pruner({"w": "_ <- x"}), "`layout` is"),
    (lambda: Pruner(LAYOUT, 0.1), "`budget` is 0.1; it must be a Budget"),
    (lambda: Pruner(LAYOUT, Budget(parameters=0.1), 1.0), "not both"),
    (lambda: Pruner(LAYOUT, strength=-1), "`strength` is -1"),
    (lambda: Pruner(LAYOUT).cost, "a state that was saved, `bind(parameters)`"),
    (
        lambda: Pruner(LAYOUT).kept(fresh()[2]),
        "the pruner has met no parameters yet; call `init(parameters)`, or",
    ),
    (lambda: Pruner(LAYOUT, gates=5), "`gates` is 5"),
    (lambda: Pruner(LAYOUT, freeze="h0"), "`freeze` is ['h0']"),
    (lambda: Pruner(LAYOUT).init({}), "names the parameter 'embedding.weight', which the model"),
    (lambda: Pruner(LAYOUT).init({"embedding.weight": 3}), "is int; it must be an array"),
    (lambda: fresh()[0].init(fresh()[1], np.random.default_rng(0)), "`rng` is Generator"),
    (lambda: fresh()[0].init(fresh()[1], -1), "`seed` is -1"),
    (
        lambda: Pruner(LAYOUT).init({n: v.astype(int) for n, v in fresh()[1].items()}),
        "has dtype int64; one that reads gated neurons must be of floating point",
    ),
    (lambda: fresh(Budget(parameters=1e-6)), "with one neuron left per axis"),
    (lambda: fresh()[0].penalty(fresh()[2], 0.5), "neither `budget` nor `strength`"),
]


@pytest.mark.parametrize(("action", "message"), BAD)
def test_bad_use(action: Any, message: str) -> None:
    with pytest.raises(L0GateError, match=re.escape(message)):
        action()


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


def test_permuting_neurons_permutes_the_selection() -> None:
    rng = np.random.default_rng(4)
    parameters = arrays_for(LAYOUT, LSTM_SIZES)
    log_alpha = {a: rng.normal(0, 2, n) for a, n in LSTM_SIZES.items()}
    order = {a: rng.permutation(n) for a, n in LSTM_SIZES.items()}
    pruner = Pruner(LAYOUT, Budget(parameters=0.5))
    kept = pruner.kept(pruner.select(pruner.init(parameters, log_alpha=log_alpha)))
    moved = {a: v[order[a]] for a, v in log_alpha.items()}
    permuted = pruner.kept(pruner.select(pruner.init(parameters, log_alpha=moved)))
    for axis, index in permuted.items():
        assert sorted(order[axis][index].tolist()) == kept[axis].tolist()


def test_gates_may_use_the_median_rule() -> None:
    pruner, parameters, _ = fresh(gates=HardConcrete(rule="median"))
    log_alpha = {"x": np.array([-2.0, -1.0, 0.0, 1.0])}
    state = pruner.init(parameters, log_alpha=log_alpha)
    assert pruner.kept(state)["x"].tolist() == [1, 2, 3]
