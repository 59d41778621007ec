from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from cases import CASES, arrays_for
from hypothesis import given
from hypothesis import strategies as st

from l0gate import Budget, L0GateError, Layout
from l0gate._selection import choose
from l0gate.layout.cost import Cost

LAYOUT = Layout.lstm(2)
SIZES = {"x": 4, "h0": 5, "h1": 6}
COST = Cost(LAYOUT, arrays_for(LAYOUT, SIZES))
ALL = {axis: np.ones(n, bool) for axis, n in SIZES.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of `parameters`, `bytes`, `multiply_adds`; given were none"),
        ({"parameters": 0.1, "bytes": 10}, "given were parameters, bytes"),
        ({"parameters": 0}, "`parameters` is 0; it must be above 0"),
        ({"parameters": 0.0}, "`parameters` is 0.0; a float is a fraction in (0, 1]"),
        ({"parameters": -0.1}, "`parameters` is -0.1; a float is a fraction"),
        ({"parameters": -5}, "`parameters` is -5; it must be above 0"),
        ({"parameters": 1.5}, "`parameters` is 1.5; a float is a fraction in (0, 1]"),
        ({"parameters": float("nan")}, "`parameters` is nan"),
        ({"parameters": True}, "`parameters` is True; it must be a float"),
        ({"bytes": "10%"}, "`bytes` is '10%'; it must be a float"),
        ({"parameters": 0.5, "warmup": 0.9}, "0 <= warmup <= settle <= 1"),
        ({"parameters": 0.5, "settle": 1.2}, "0 <= warmup <= settle <= 1"),
        ({"parameters": 0.5, "rate": (1.0, -1.0)}, "`rate` is (1.0, -1.0)"),
        ({"parameters": 0.5, "rate": (float("inf"), 1.0)}, "`rate` is (inf, 1.0)"),
        ({"parameters": 0.5, "rate": 0.2}, "`rate` is 0.2"),
        ({"parameters": 0.5, "rate": ("a", "b")}, "`rate` is ('a', 'b')"),
        ({"parameters": 0.5, "warmup": None}, "`warmup` and `settle` are None"),
        ({"parameters": 0.5, "of": 5}, "`of` is 5; it must be 'layout', 'recurrent' or a list"),
        ({"parameters": 0.5, "of": [["w"]]}, "`of` is [['w']]"),
    ],
)
def test_bad_budgets(options: dict, message: str) -> None:
    with pytest.raises(L0GateError, match=re.escape(message)):
        Budget(**options)


def test_a_budget_below_one_neuron_per_axis_names_the_floor() -> None:
    floor = COST.at(dict.fromkeys(SIZES, 1))
    assert Budget(parameters=floor).limit(COST) == floor
    with pytest.raises(
        L0GateError, match=rf"the least is {floor} \(.*%\), with one neuron left per axis$"
    ):
        Budget(parameters=floor - 1).limit(COST)
    frozen = COST.at({"x": 4, "h0": 1, "h1": 1})
    with pytest.raises(
        L0GateError, match=rf"the least is {frozen} .* and all of 'x', which stay whole"
    ):
        Budget(parameters=floor).limit(COST, ["x"])


def test_fractions_and_figures() -> None:
    assert Budget(parameters=0.5, warmup=0, settle=0, rate=(0, 0)).rate == (0, 0)
    assert Budget(parameters=0.5).limit(COST) == COST.total // 2
    assert Budget(parameters=1.0).limit(COST) == Budget(parameters=COST.total).limit(COST)
    assert Budget(parameters=np.float32(0.5)).limit(COST) == COST.total // 2
    # 0.29 of 100 is 28.999999999999996 in floating point.
    hundred = Cost(Layout({"w": "_ <- h"}), {"w": np.zeros((10, 10))})
    assert Budget(parameters=0.29).limit(hundred) == 29
    with pytest.raises(L0GateError, match=f"`parameters` is {10**9}; the dense model has only"):
        Budget(parameters=10**9).limit(COST)
    assert Budget(bytes=1000).measure == "bytes"
    assert repr(Budget(parameters=0.5, of="recurrent")) == "Budget(parameters=0.5, of='recurrent')"


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
