"""The cut that meets a budget exactly."""

from __future__ import annotations

import itertools

import numpy as np
from budget_cases import COST, LAYOUT, SIZES
from cases import CASES, arrays_for
from hypothesis import given
from hypothesis import strategies as st

from l0gate import Budget, L0GateError
from l0gate._selection import best_neuron, choose, merged_groups, pad
from l0gate.layout.cost import Cost

ALL = {axis: np.ones(n, bool) for axis, n in SIZES.items()}


@given(st.integers(0, 2**31), st.floats(0.1, 1.0), st.booleans(), st.booleans())
def test_the_cut_fits_and_no_further_neuron_would(
    seed: int, share: float, ties: bool, frozen: bool
) -> None:
    rng = np.random.default_rng(seed)
    log_alpha = {axis: rng.normal(size=n) for axis, n in SIZES.items()}
    if ties:
        log_alpha = {axis: np.round(values) for axis, values in log_alpha.items()}
    freeze = ["x"] if frozen else []
    floor = COST.at({a: n if a in freeze else 1 for a, n in SIZES.items()})
    limit = floor + share * (COST.total - floor)
    kept = choose(COST, limit, log_alpha, ALL, frozen=freeze)
    counts = {axis: len(index) for axis, index in kept.items()}
    assert COST.at(counts) <= limit
    for axis, n in SIZES.items():
        assert (np.diff(kept[axis]) > 0).all()
        assert axis not in freeze or len(kept[axis]) == n
        if counts[axis] < n:
            assert COST.at({**counts, axis: counts[axis] + 1}) > limit
            left = np.setdiff1d(np.arange(n), kept[axis])
            assert log_alpha[axis][kept[axis]].min() >= log_alpha[axis][left].max()


def test_ties_go_by_rank_in_the_axis_then_by_norm() -> None:
    sizes = {"x": 4, "h0": 8, "h1": 8}
    cost = Cost(LAYOUT, arrays_for(LAYOUT, sizes))
    log_alpha = {axis: np.zeros(n) for axis, n in sizes.items()}
    allowed = {axis: np.ones(n, bool) for axis, n in sizes.items()}
    norms = {axis: np.arange(n, dtype=float) for axis, n in sizes.items()}
    kept = choose(cost, cost.at({"x": 2, "h0": 4, "h1": 4}), log_alpha, allowed, norms)
    assert {axis: index.tolist() for axis, index in kept.items()} == {
        "x": [2, 3],
        "h0": [4, 5, 6, 7],
        "h1": [4, 5, 6, 7],
    }


def test_candidates_alone_may_stay_but_an_axis_keeps_its_best() -> None:
    log_alpha = {axis: np.arange(n, dtype=float) for axis, n in SIZES.items()}
    allowed = {axis: np.zeros(n, bool) for axis, n in SIZES.items()}
    allowed["h0"][[0, 2]] = True
    kept = choose(COST, COST.total, log_alpha, allowed)
    assert {axis: index.tolist() for axis, index in kept.items()} == {
        "x": [3],
        "h0": [0, 2],
        "h1": [5],
    }


def test_a_group_keeps_the_larger_number_of_candidates() -> None:
    layout = CASES["bidirectional"]
    sizes = {"f": 10, "b": 10, "x": 3}
    cost = Cost(layout, arrays_for(layout, sizes))
    log_alpha = {axis: np.arange(n, dtype=float) for axis, n in sizes.items()}
    allowed = {axis: np.ones(n, bool) for axis, n in sizes.items()}
    allowed["f"][:8] = False
    kept = choose(cost, cost.total, log_alpha, allowed, groups=[("f", "b")])
    assert [len(kept["f"]), len(kept["b"])] == [10, 10]


@given(st.integers(0, 99), st.floats(0.2, 0.9))
def test_grouped_axes_keep_one_count(seed: int, share: float) -> None:
    layout = CASES["bidirectional"]
    sizes = {"f": 4, "b": 4, "x": 3}
    cost = Cost(layout, arrays_for(layout, sizes))
    rng = np.random.default_rng(seed)
    log_alpha = {axis: rng.normal(size=n) for axis, n in sizes.items()}
    allowed = {axis: np.ones(n, bool) for axis, n in sizes.items()}
    kept = choose(cost, share * cost.total, log_alpha, allowed, groups=[("f", "b")])
    assert len(kept["f"]) == len(kept["b"])
    counts = {axis: len(index) for axis, index in kept.items()}
    assert cost.at(counts) <= share * cost.total
    if counts["f"] < 4:
        assert cost.at({**counts, "f": counts["f"] + 1, "b": counts["b"] + 1}) > share * cost.total


def test_the_prefix_is_the_longest_that_fits() -> None:
    rng = np.random.default_rng(3)
    log_alpha = {axis: rng.normal(size=n) for axis, n in SIZES.items()}
    limit = 0.4 * COST.total
    kept = choose(COST, limit, log_alpha, ALL)
    best = {axis: int(np.argmax(values)) for axis, values in log_alpha.items()}
    rest = [(-v, a) for a, vs in log_alpha.items() for i, v in enumerate(vs) if i != best[a]]
    counts = dict.fromkeys(SIZES, 1)
    for _, axis in itertools.takewhile(
        lambda step: COST.at({**counts, step[1]: counts[step[1]] + 1}) <= limit, sorted(rest)
    ):
        counts[axis] += 1
    assert all(len(kept[axis]) >= count for axis, count in counts.items())


def test_padding_makes_every_group_equal_also_where_groups_overlap() -> None:
    kept = {axis: np.arange(count) for axis, count in {"a": 5, "b": 2, "c": 3, "d": 1}.items()}
    scores = {axis: np.linspace(0, 1, 6) for axis in kept}
    padded = pad(kept, [("a", "b"), ("b", "c")], scores)
    assert {axis: len(index) for axis, index in padded.items()} == {"a": 5, "b": 5, "c": 5, "d": 1}
    assert padded["c"].tolist() == [0, 1, 2, 4, 5]  # the best of those that were closed
    assert len(pad(kept, [("d",)], scores, least=2)["d"]) == 2
    assert merged_groups([("a", "b"), ("c",), ("c", "a")]) == [("a", "b", "c")]


def test_the_best_neuron_has_the_highest_log_alpha() -> None:
    assert best_neuron(np.array([-3.0, -1.0, -2.0])) == 1


@given(
    st.integers(0, 99),
    st.floats(0.35, 1),
    st.integers(1, 3),
    st.sets(st.integers(1, 4), min_size=1),
    st.booleans(),
)
def test_counts_are_those_allowed_and_no_further_step_fits(
    seed: int, share: float, multiple: int, sizes: set[int], grouped: bool
) -> None:
    layout = CASES["bidirectional"]
    axes = {"f": 4, "b": 4, "x": 3}
    cost = Cost(layout, arrays_for(layout, axes))
    budget = Budget(parameters=share, round_to=multiple, sizes=tuple(sizes))
    allowed = budget.allowed(axes)
    if allowed is None:
        return
    try:
        limit = budget.limit(cost)
    except L0GateError:
        assert cost.at({axis: counts[0] for axis, counts in allowed.items()}) > share * cost.total
        return
    rng = np.random.default_rng(seed)
    scores = {axis: rng.normal(size=n) for axis, n in axes.items()}
    every = {axis: np.ones(n, bool) for axis, n in axes.items()}
    groups = [("f", "b")] if grouped else []
    kept = choose(cost, limit, scores, every, groups=groups, allowed=allowed)
    counts = {axis: len(index) for axis, index in kept.items()}
    assert all(counts[axis] in allowed[axis] for axis in axes)
    assert cost.at(counts) <= limit
    for unit in [("f", "b"), ("x",)] if grouped else [("f",), ("b",), ("x",)]:
        above = [n for n in allowed[unit[0]] if n > counts[unit[0]]]
        if above:
            assert cost.at(counts | dict.fromkeys(unit, above[0])) > limit
    for axis, index in kept.items():  # the best of each axis
        if not grouped or axis == "x":
            assert set(index) == set(np.argsort(-scores[axis], kind="stable")[: len(index)])


def test_padding_goes_to_the_next_number_allowed() -> None:
    kept = {"a": np.arange(3), "b": np.arange(5), "c": np.arange(1)}
    scores = {axis: np.linspace(0, 1, 8) for axis in kept}
    allowed = {"a": (4, 8), "b": (4, 8), "c": (1,)}
    padded = pad(kept, [], scores, allowed=allowed)
    assert {axis: len(index) for axis, index in padded.items()} == {"a": 4, "b": 8, "c": 1}
    assert padded["a"].tolist() == [0, 1, 2, 7]
