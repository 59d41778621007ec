"""Budgets: fractions and absolute figures, the floor, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from budget_cases import COST, SIZES

from l0gate import Budget, L0GateError, Layout
from l0gate.layout.cost import Cost


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
        L0GateError, match=rf"the least is {frozen} .* and all of 'x', which are frozen"
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


def test_numbers_of_neurons_that_are_allowed() -> None:
    sizes = {"h0": 20, "x": 3}
    assert Budget(parameters=0.5).allowed(sizes) is None
    assert Budget(parameters=0.5, sizes=(12, 8, 40)).allowed(sizes) == {"h0": (8, 12), "x": (3,)}
    both = Budget(parameters=0.5, round_to=4, sizes={"h0": [6, 8, 12]})
    assert both.allowed(sizes) == {"h0": (8, 12), "x": (3,)}
    with pytest.raises(L0GateError, match=r"`sizes` names the axes \['h7'\]; the layout has h0, x"):
        Budget(parameters=0.5, sizes={"h7": [1]}).allowed(sizes)
    assert "round_to=4" in repr(both)


@pytest.mark.parametrize(
    "options",
    [
        {"round_to": 0},
        {"round_to": 1.5},
        {"round_to": True},
        {"sizes": 8},
        {"sizes": []},
        {"sizes": [0]},
        {"sizes": {"h0": 3}},
        {"sizes": ["8"]},
    ],
)
def test_numbers_of_neurons_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(L0GateError, match=f"`{next(iter(options))}` is"):
        Budget(parameters=0.5, **options)
