"""The exact and the expected cost, against counting and against all outcomes."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st

import l0gate
from l0gate import L0GateError, Layout
from l0gate.layout.cost import Cost
from l0gate.layout.fold import keep

NUMPY = l0gate.get_backend("numpy")


def count(parameters: dict) -> int:
    return sum(
        part.size
        for value in parameters.values()
        for part in (value if isinstance(value, tuple) else [value])
    )


@pytest.mark.parametrize("name", CASES)
def test_the_cost_of_a_selection_is_the_size_after_shrinking(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = arrays_for(layout, sizes)
    cost = Cost(layout, parameters)
    in_bytes = Cost(layout, parameters, "bytes")
    for keep_count in (1, 2):
        kept = {axis: np.arange(keep_count) for axis in sizes}
        small = keep(layout, parameters, kept, NUMPY)
        assert cost.at(dict.fromkeys(sizes, keep_count)) == count(small)
        assert in_bytes.at(dict.fromkeys(sizes, keep_count)) == 8 * count(small)
    assert cost.total == count(parameters)


@pytest.mark.parametrize("name", CASES)
def test_the_expected_cost_is_the_mean_over_all_outcomes(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: 2 if len(layout.axes) > 3 else 3 for axis in layout.axes}
    cost = Cost(layout, arrays_for(layout, sizes))
    rng = np.random.default_rng(5)
    p = {axis: rng.uniform(size=n) for axis, n in sizes.items()}
    flat = np.concatenate([p[axis] for axis in sizes])
    mean = 0.0
    for outcome in itertools.product([0, 1], repeat=len(flat)):
        probability = np.prod(np.where(outcome, flat, 1 - flat))
        parts = np.split(np.array(outcome), np.cumsum(list(sizes.values()))[:-1])
        mean += probability * cost.at({a: int(o.sum()) for a, o in zip(sizes, parts, strict=True)})
    assert float(cost.expected(p, NUMPY)) == pytest.approx(mean, rel=1e-12)


def test_an_axis_in_three_dimensions_is_counted_by_its_third_moment() -> None:
    layout = Layout({"t": "h <- h h h"})
    cost = Cost(layout, {"t": np.zeros((3, 3, 3, 3))})
    p = np.array([0.1, 0.5, 0.8])
    outcomes = list(itertools.product([0, 1], repeat=3))
    weights = [np.prod(np.where(o, p, 1 - p)) for o in outcomes]
    mean = sum(w * sum(o) ** 4 for w, o in zip(weights, outcomes, strict=True))
    assert float(cost.expected({"h": p}, NUMPY)) == pytest.approx(mean, rel=1e-12)


def test_the_published_formula_of_a_two_layer_lstm() -> None:
    layout = Layout.lstm(2, bias=False)
    shapes = {
        "embedding.weight": (20, 5),
        "rnn.weight_ih_l0": (12, 5),
        "rnn.weight_hh_l0": (12, 3),
        "rnn.weight_ih_l1": (16, 3),
        "rnn.weight_hh_l1": (16, 4),
        "decoder.weight": (20, 4),
        "decoder.bias": (20,),
    }
    rng = np.random.default_rng(1)
    z, s1, s2 = (rng.uniform(size=n) for n in (5, 3, 4))
    cost = Cost(layout, {n: np.zeros(s) for n, s in shapes.items()}, of="recurrent")

    def d(s: np.ndarray) -> float:
        return s.sum() ** 2 - (s**2).sum() + s.sum()

    expected = 4 * (z.sum() * s1.sum() + d(s1) + s1.sum() * s2.sum() + d(s2))
    found = cost.expected({"x": z, "h0": s1, "h1": s2}, NUMPY)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 999))
def test_the_slope_is_the_derivative_of_the_expected_cost(name: str, seed: int) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    cost = Cost(layout, arrays_for(layout, sizes))
    rng = np.random.default_rng(seed)
    p = {axis: rng.uniform(0.1, 0.9, size=n) for axis, n in sizes.items()}
    v = {axis: rng.normal(size=n) for axis, n in sizes.items()}
    step = 1e-5
    ahead, behind = (
        float(cost.expected({a: p[a] + sign * step * v[a] for a in p}, NUMPY)) for sign in (1, -1)
    )
    slope = cost.expected_gradient(p, NUMPY)
    inner = sum(float(np.vdot(slope[a], v[a])) for a in p)
    assert inner == pytest.approx((ahead - behind) / (2 * step), rel=1e-7, abs=1e-6)


def test_multiply_adds_count_products_and_not_lookups() -> None:
    layout = Layout.lstm(1)
    sizes = {"x": 5, "h0": 3}
    parameters = arrays_for(layout, sizes)
    cost = Cost(layout, parameters, "multiply_adds")
    assert cost.at({"x": 2, "h0": 1}) == 4 * (2 + 1) + 3
    halved = Layout(layout.to_dict(), uses={"embedding.weight": 0, "decoder.weight": 0.5})
    assert Cost(halved, parameters, "multiply_adds").total == 12 * 8 + 0.5 * 9


def test_bytes_follow_the_dtype_of_each_parameter() -> None:
    layout = Layout({"w": "_ <- h", "b": "h"})
    parameters = {"w": np.zeros((2, 3), np.float16), "b": np.zeros(3, np.float64)}
    assert Cost(layout, parameters, "bytes").total == 6 * 2 + 3 * 8


def test_what_is_counted() -> None:
    parameters = arrays_for(CASES["design"], {"x": 5, "h0": 3})
    layout = CASES["design"]
    assert Cost(layout, parameters, of="recurrent").total == 12 * 5 + 12 * 3
    assert Cost(layout, parameters, of=["decoder.weight"]).total == 9
    assert Cost(layout, parameters, of="decoder.weight").total == 9
    for of, message in (("decoder", "`of` names 'decoder'"), ((), "`of` is empty")):
        with pytest.raises(L0GateError, match=re.escape(message)):
            Cost(layout, parameters, of=of)
    with pytest.raises(L0GateError, match="`measure` is 'flops'"):
        Cost(layout, parameters, "flops")
    with pytest.raises(L0GateError, match="no parameter reads an axis it writes"):
        Cost(Layout({"w": "_ <- h"}), {"w": np.zeros((2, 3))}, of="recurrent")


@pytest.mark.parametrize(
    ("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4), ("float64", 8)]
)
def test_the_backend_names_the_dtype(dtype: str, size: int) -> None:
    class Named(type(l0gate.get_backend("numpy"))):  # type: ignore[misc]
        def dtype(self, x: object) -> str:
            assert isinstance(x, np.ndarray)
            return dtype

    layout = Layout({"w": "_ <- h"})
    cost = Cost(layout, {"w": np.ones((3, 5))}, "bytes", backend=Named())
    assert cost.total == 15 * size


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float64", 8), ("torch.float32", 4), ("bfloat16", 2), ("torch.bfloat16", 2)],
)
def test_bytes_of_an_entry_of_any_framework(dtype: str, size: int) -> None:
    class Weight:
        def __init__(self) -> None:
            self.shape, self.dtype = (2, 3), dtype

    assert Cost(Layout({"w": "_ <- x"}), {"w": Weight()}, "bytes").total == 6 * size
