"""Magnitude, at once and gradually."""

from __future__ import annotations

import numpy as np
import pytest
from method_cases import LAYOUT, arrays, trained

from l0gate import Budget, Pruner, get_backend
from l0gate.layout.fold import group_norms
from l0gate.methods import GeometricMedian, GroupLasso, Magnitude, Method


@pytest.mark.parametrize("method", [Magnitude(), GroupLasso()])
def test_magnitude_keeps_the_largest(method: Method) -> None:
    parameters = arrays(3)
    norms = group_norms(LAYOUT, parameters, get_backend("numpy"))
    pruner = Pruner(LAYOUT, Budget(parameters=0.4), method=method)
    kept = pruner.kept(trained(pruner, parameters))
    for axis, index in kept.items():
        order = np.argsort(-norms[axis])
        assert set(index.tolist()) == set(order[: len(index)].tolist())


def test_gradual_magnitude_closes_on_the_way_and_never_opens() -> None:
    parameters = arrays(hidden=(30, 30))
    pruner = Pruner(LAYOUT, Budget(parameters=0.3, settle=0.8), method="gradual_magnitude")
    state, sizes = pruner.init(parameters), []
    for step in range(1, 26):
        rng = np.random.default_rng(step)  # weights that move between the cuts
        moved = {n: v + 0.3 * rng.standard_normal(v.shape) for n, v in parameters.items()}
        before = pruner.gates(state)
        state = pruner.update(state, 0.8 * step / 25, moved)
        now = pruner.gates(state)
        assert all((now[axis] <= before[axis]).all() for axis in now)
        sizes.append(pruner.size(state) / pruner.cost.total)
        wanted = 1 - 0.7 * (1 - (1 - step / 25) ** 3)
        assert sizes[-1] <= wanted + 1e-9
        assert sizes[-1] >= wanted - 0.1
    assert pruner.update(state, 0.5, parameters)["progress"] == state["progress"]  # never back
    assert not pruner.selected(state)
    assert pruner.selected(pruner.select(state, parameters))


def test_gradual_magnitude_does_not_cut_below_the_budget_or_before_its_time() -> None:
    parameters = arrays(hidden=(30, 30))
    pruner = Pruner(LAYOUT, Budget(parameters=0.3, settle=0.5), method="gradual_magnitude")
    state = pruner.update(pruner.init(parameters), 0.004, parameters)
    assert pruner.size(state) == pruner.cost.total
    late = pruner.update(state, 0.9, parameters)
    assert 0.29 <= pruner.size(late) / pruner.cost.total <= 0.3
    assert [Magnitude(gradual=True).share(p) for p in (0, 0.5, 1, 2)] == [0, 0.875, 1, 1]
    assert Magnitude().share(0.5) == GeometricMedian().share(0.5) == 0
