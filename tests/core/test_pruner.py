"""Selection within the budget, and shrinking to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from pruner_cases import LAYOUT, LSTM_SIZES, NUMPY, fresh

from l0gate import Budget, HardConcrete, L0GateError, Layout, Pruner
from l0gate._selection import warn_about_gates
from l0gate.layout.fold import fold, group_norms


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
        ([("h0", "h1"), ("h1", "x")], "names the axis 'h1' twice"),
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
            warn_about_gates(gates, np.full(3, value), 0.55, 0.5)
        warn_about_gates(gates, np.zeros(0), 0.5, 0.5)
    for value, word in ((gates.highest, "open"), (gates.lowest, "closed")):
        with pytest.warns(UserWarning, match=rf"log_alpha = {value:g} \({word}\)"):
            warn_about_gates(gates, np.array([value]), 0.5, 0.5)


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


def test_a_group_given_when_shrinking_may_overlap_one_of_the_pruner() -> None:
    layout = Layout({"u": "a <- _", "v": "b <- a", "w": "c <- b", "o": "_ <- c"})
    parameters = arrays_for(layout, dict.fromkeys("abc", 6))
    pruner = Pruner(layout, strength=1.0, equal=[("a", "b")])
    open_gates = {"a": 5, "b": 2, "c": 3}
    log_alpha = {axis: np.where(np.arange(6) < n, 4.0, -5.0) for axis, n in open_gates.items()}
    state = pruner.init(parameters, log_alpha=log_alpha)
    kept = pruner.kept(state, [("b", "c")])
    assert {axis: len(index) for axis, index in kept.items()} == {"a": 5, "b": 5, "c": 5}


@given(st.integers(0, 99), st.floats(0.3, 0.9), st.booleans())
def test_sizes_that_a_target_accepts(seed: int, share: float, reopen: bool) -> None:
    budget = Budget(parameters=share, sizes={"h0": (2, 4), "h1": (3, 6)})
    pruner, parameters, state = fresh(budget)
    rng = np.random.default_rng(seed)
    drawn = {axis: rng.normal(-2, 3, size) for axis, size in LSTM_SIZES.items()}
    state = {**state, "log_alpha": drawn}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        state = pruner.select(state, parameters, reopen=reopen)
        small, kept = pruner.shrink(parameters, state)
    assert len(kept["h0"]) in (2, 4)
    assert len(kept["h1"]) in (3, 6)
    assert sum(array.size for array in small.values()) <= share * pruner.cost.total
