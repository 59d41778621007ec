"""Spectral pruning: the greedy order, its scores, and what it needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner
from l0gate._reconstruction import mixing_matrix
from l0gate.methods.spectral import Spectral, explained_order

NUMPY = l0gate.get_backend("numpy")
LAYOUT = Layout({"w": "h <- _", "v": "_ <- h"})


@given(seed=st.integers(0, 2**31))
def test_the_greedy_order_takes_what_explains_most_and_explains_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    pairs, weights = [], []
    for _ in range(int(rng.integers(1, 4))):
        h, weight = rng.normal(size=(50, n)) @ rng.normal(size=(n, n)), rng.normal(size=(4, n))
        pairs.append((h.T @ h / 50, weight.T @ weight))
        weights.append(weight)
    order, gains = explained_order(pairs)
    assert sorted(order.tolist()) == list(range(n))
    assert gains.sum() == pytest.approx(1.0, abs=1e-6)
    total = sum(np.trace(gram @ moments) for moments, gram in pairs)

    def unexplained(kept: np.ndarray) -> float:
        lost = 0.0
        for (moments, _), weight in zip(pairs, weights, strict=True):
            m = mixing_matrix(moments, np.sort(kept), 0.0) - np.eye(n)
            lost += np.trace(weight @ m @ moments @ m.T @ weight.T)
        return lost

    for count in range(1, n):
        taken = order[: count - 1]
        least = min(unexplained(np.array([*taken, j])) for j in range(n) if j not in taken)
        own = unexplained(order[:count])
        assert own <= least + 1e-7 * total
        assert own == pytest.approx(total * (1 - gains[:count].sum()), abs=1e-6 * total)


def test_a_neuron_that_others_explain_goes_first() -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=(40, 3))
    h = np.concatenate([h, h @ rng.normal(size=(3, 2))], axis=1)
    parameters = {"w": np.ones((5, 1)), "v": rng.normal(size=(4, 5))}
    pruner = Pruner(LAYOUT, Budget(parameters=0.6), method="spectral")
    state = pruner.init(parameters)
    state = pruner.select(state, parameters, moments={"h": h.T @ h})
    kept = pruner.kept(state)
    assert len(kept["h"]) == 3
    mixed = pruner.reconstruct(parameters, kept, {"h": h.T @ h / 40}, ridge=0.0)
    np.testing.assert_allclose(h @ mixed["v"].T, h @ parameters["v"].T, atol=1e-8)


def test_without_calibration_data_it_says_what_to_give() -> None:
    parameters = {"w": np.ones((5, 1)), "v": np.ones((4, 5))}
    pruner = Pruner(LAYOUT, Budget(parameters=0.6), method="spectral")
    state = pruner.init(parameters)
    with pytest.raises(L0GateError, match="chooses neurons on calibration data"):
        pruner.select(state, parameters)
    with pytest.raises(L0GateError, match="`moments` lack the axis 'h'"):
        pruner.select(state, parameters, moments={})


def test_any_method_may_use_moments() -> None:
    class Loudest(Spectral):
        def scores_from_moments(self, layout, parameters, backend, moments):  # type: ignore[no-untyped-def]
            return {axis: np.diag(values) for axis, values in moments.items()}

    parameters = {"w": np.ones((3, 1)), "v": np.ones((4, 3))}
    pruner = Pruner(LAYOUT, Budget(parameters=0.4), method=Loudest())
    state = pruner.select(
        pruner.init(parameters), parameters, moments={"h": np.diag([1.0, 3.0, 2.0])}
    )
    assert pruner.kept(state)["h"].tolist() == [1]
