"""Reconstruction: exact algebra, and never worse than a plain cut where readers are linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st

import l0gate
from l0gate import L0GateError, Layout, Pruner
from l0gate._reconstruction import explained_order, mix, mixing_matrix, reading_gram
from l0gate.layout.fold import fold

NUMPY = l0gate.get_backend("numpy")
LINEAR = Layout({"w": "h <- _", "v": "_ <- h"})


def moments_of(h: np.ndarray) -> np.ndarray:
    """The mean of h h^T over positions, h (positions, n)."""
    return h.T @ h / len(h)


def random_cut(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))


@given(seed=st.integers(0, 2**31))
def test_nothing_dropped_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    moments = moments_of(rng.normal(size=(20, n)))
    np.testing.assert_array_equal(mixing_matrix(moments, np.arange(n), 0.0), np.eye(n))


@pytest.mark.parametrize("name", CASES)
def test_identities_mix_to_the_same_parameters(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = arrays_for(layout, SIZES)
    mixed = mix(layout, parameters, {a: np.eye(n) for a, n in sizes.items()}, NUMPY)
    for key, value in parameters.items():
        for one, other in zip(_parts(mixed[key]), _parts(value), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_mixing_by_a_diagonal_is_folding(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    rng = np.random.default_rng(0)
    parameters = arrays_for(layout, SIZES)
    gates = {axis: rng.uniform(size=n) for axis, n in sizes.items()}
    mixed = mix(layout, parameters, {a: np.diag(g) for a, g in gates.items()}, NUMPY)
    folded = fold(layout, parameters, gates, NUMPY)
    for key in parameters:
        for one, other in zip(_parts(mixed[key]), _parts(folded[key]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


@given(seed=st.integers(0, 2**31))
def test_neurons_that_are_linear_combinations_go_without_a_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, d, n = (int(x) for x in rng.integers(1, 6, 3))
    independent = rng.normal(size=(40, k))
    h = np.concatenate([independent, independent @ rng.normal(size=(k, d))], axis=1)
    order = rng.permutation(k + d)
    h = h[:, order]
    kept = np.sort(np.flatnonzero(order < k))
    weight = rng.normal(size=(n, k + d))
    mixed = weight @ mixing_matrix(moments_of(h), kept, 0.0)
    np.testing.assert_allclose(h @ mixed.T, h @ weight.T, rtol=0, atol=1e-8)
    dropped = np.setdiff1d(np.arange(k + d), kept)
    assert not mixed[:, dropped].any()


@given(seed=st.integers(0, 2**31))
def test_the_error_of_linear_readers_is_never_larger_than_without(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 10))
    h = rng.normal(size=(60, n)) @ rng.normal(size=(n, n))
    kept, weight = random_cut(rng, n), rng.normal(size=(3, n))
    cut = np.zeros_like(weight)
    cut[:, kept] = weight[:, kept]
    mixed = weight @ mixing_matrix(moments_of(h), kept, 0.0)
    wanted = h @ weight.T
    errors = [np.square(h @ w.T - wanted).sum() for w in (mixed, cut)]
    assert errors[0] <= errors[1] * (1 + 1e-9) + 1e-9


def test_a_reconstructed_net_is_shrunk_exactly() -> None:
    layers = [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn", "num_layers": 2},
        {"type": "linear", "name": "decoder"},
    ]
    net = l0gate.get_backend("numpy").net(layers)
    sizes = {"embedding": 5, "rnn": [7, 6], "decoder": 4}
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=9, sizes=sizes, dtype=np.float64)
    pruner = Pruner(Layout.lstm(2), l0gate.Budget(parameters=0.5), method="magnitude")
    state = pruner.select(pruner.init(parameters), parameters)
    kept = pruner.kept(state)
    moments = {a: moments_of(rng.normal(size=(50, n))) for a, n in pruner.sizes.items()}
    reconstructed = pruner.reconstruct(parameters, kept, moments)
    small, _ = pruner.shrink(reconstructed, state)
    certificate = pruner.certify(
        lambda given, x: net.apply(given, x)[0],
        reconstructed,
        state,
        small,
        kept,
        [rng.integers(0, 9, (6, 2))],
    )
    assert certificate.max_abs_difference < 1e-12
    for name, value in parameters.items():
        assert reconstructed[name].shape == value.shape
        assert reconstructed[name].dtype == value.dtype


def test_the_gram_of_the_readers_weighs_what_they_compute() -> None:
    layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h", "v": "_ <- (h + h)"})
    rng = np.random.default_rng(0)
    parameters = {"w": rng.normal(size=(12, 2)), "u": rng.normal(size=(12, 3))}
    parameters["v"] = rng.normal(size=(5, 6))
    gram = reading_gram(layout, parameters, NUMPY)
    u, v = parameters["u"], parameters["v"]
    np.testing.assert_allclose(gram["h"], u.T @ u + v[:, :3].T @ v[:, :3] + v[:, 3:].T @ v[:, 3:])
    np.testing.assert_allclose(gram["x"], parameters["w"].T @ parameters["w"])


@given(seed=st.integers(0, 2**31))
def test_the_greedy_order_takes_what_explains_most_and_explains_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    h, weight = rng.normal(size=(50, n)) @ rng.normal(size=(n, n)), rng.normal(size=(4, n))
    moments, gram = moments_of(h), weight.T @ weight
    order, gains = explained_order(moments, gram)
    assert sorted(order.tolist()) == list(range(n))
    assert gains.sum() == pytest.approx(1.0, abs=1e-6)
    total = np.trace(gram @ moments)
    for count in range(1, n):
        left = []
        for j in range(n):
            if j not in order[: count - 1]:
                kept = np.sort([*order[: count - 1], j])
                m = mixing_matrix(moments, kept, 0.0) - np.eye(n)
                left.append(np.trace(weight @ m @ moments @ m.T @ weight.T))
        kept = np.sort(order[:count])
        m = mixing_matrix(moments, kept, 0.0) - np.eye(n)
        own = np.trace(weight @ m @ moments @ m.T @ weight.T)
        assert own <= min(left) + 1e-7 * total
        assert own == pytest.approx(total * (1 - gains[:count].sum()), abs=1e-6 * total)


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (None, "`moments` is None; it must map axes to arrays"),
        ({"z": np.eye(2)}, "`moments` names the axis 'z'"),
        ({"h": np.eye(3)}, "`moments['h']` has shape (3, 3); the axis has 2 neurons"),
        ({"h": [["a"]]}, "must be an array of numbers"),
        ({"h": np.full((2, 2), np.nan)}, "`moments['h']` must be finite"),
        ({"h": np.array([[1.0, 2.0], [0.0, 1.0]])}, "`moments['h']` must be symmetric"),
    ],
)
def test_bad_moments(moments: Any, message: str) -> None:
    pruner = Pruner(LINEAR, strength=1.0)
    parameters = {"w": np.ones((2, 3)), "v": np.ones((4, 2))}
    pruner.init(parameters)
    with pytest.raises(L0GateError) as error:
        pruner.reconstruct(parameters, {"h": np.array([0])}, moments)
    assert message in str(error.value)


@pytest.mark.parametrize("ridge", [-1.0, float("inf"), float("nan"), "1", None])
def test_bad_ridges(ridge: Any) -> None:
    parameters = {"w": np.ones((2, 3)), "v": np.ones((4, 2))}
    with pytest.raises(L0GateError, match=r"`ridge` is .*; it must be a finite number"):
        Pruner(LINEAR, strength=1.0).reconstruct(
            parameters, {"h": np.array([0])}, {"h": np.eye(2)}, ridge=ridge
        )
