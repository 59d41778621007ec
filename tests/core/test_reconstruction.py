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
from l0gate._reconstruction import Mixing, mix, mixing_matrix
from l0gate.layout.fold import fold

NUMPY = l0gate.get_backend("numpy")
LINEAR = Layout({"w": "h <- _", "v": "_ <- h"})


def moments_of(h: np.ndarray) -> np.ndarray:
    """The mean of h h^T over positions, h (positions, n)."""
    return h.T @ h / len(h)


def for_readers(layout: Layout, matrices: dict[str, np.ndarray]) -> dict[Any, Mixing]:
    return {(a, name): Mixing(m) for a, m in matrices.items() for name in layout.readers(a)}


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
    mixed = mix(
        layout, parameters, for_readers(layout, {a: np.eye(sizes[a]) for a in sizes}), NUMPY
    )
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
    matrices = {axis: np.diag(gate) for axis, gate in gates.items()}
    mixed = mix(layout, parameters, for_readers(layout, matrices), NUMPY)
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


@given(seed=st.integers(0, 2**31))
def test_a_bias_takes_the_means(seed: int) -> None:
    """Neurons that are others plus constants go without a change, and the error with a bias is at
    most that without."""
    rng = np.random.default_rng(seed)
    k, d, n = (int(x) for x in rng.integers(1, 6, 3))
    independent = rng.normal(size=(40, k))
    h = np.concatenate([independent, independent @ rng.normal(size=(k, d)) + rng.normal(size=d)], 1)
    layout = Layout({"w": "h <- _", "weight": "_ <- h", "bias": "_"})
    parameters = {"w": np.ones((k + d, 2)), "weight": rng.normal(size=(n, k + d))}
    parameters["bias"] = rng.normal(size=n)
    ones = np.concatenate([h, np.ones((40, 1))], axis=1)
    pruner = Pruner(layout, strength=1.0)
    kept = {"h": np.arange(k)}
    mixed = pruner.reconstruct(parameters, kept, {"h": ones.T @ ones}, ridge=0.0)
    wanted = h @ parameters["weight"].T + parameters["bias"]
    found = h @ mixed["weight"].T + mixed["bias"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
    assert not mixed["weight"][:, k:].any()
    centreless = pruner.reconstruct(parameters, kept, {"h": moments_of(h)}, ridge=0.0)
    np.testing.assert_array_equal(centreless["bias"], parameters["bias"])


def test_every_reader_has_moments_of_its_own() -> None:
    """The second neuron is twice the first for one reader, and three times for the other."""
    layout = Layout({"w": "h <- _", "a": "_ <- h", "b": "_ <- h"})
    parameters = {"w": np.ones((2, 1)), "a": np.ones((1, 2)), "b": np.ones((1, 2))}
    moments = {
        ("h", "a"): np.array([[1.0, 2.0], [2.0, 4.0]]),
        ("h", "b"): np.array([[1.0, 3.0], [3.0, 9.0]]),
    }
    pruner = Pruner(layout, strength=1.0)
    mixed = pruner.reconstruct(parameters, {"h": np.array([0])}, moments, ridge=0.0)
    np.testing.assert_allclose(mixed["a"], [[3.0, 0.0]])
    np.testing.assert_allclose(mixed["b"], [[4.0, 0.0]])


def test_the_taps_of_a_convolution_share_the_bias() -> None:
    layout = Layout({"w": "h <- _", "weight": "_ <- h _", "bias": "_"})
    rng = np.random.default_rng(0)
    parameters = {"w": np.ones((2, 1)), "weight": rng.normal(size=(3, 2, 4))}
    parameters["bias"] = np.zeros(3)
    h = rng.normal(size=(30, 1))
    ones = np.concatenate([h, h + 2.0, np.ones((30, 1))], axis=1)
    pruner = Pruner(layout, strength=1.0)
    mixed = pruner.reconstruct(parameters, {"h": np.array([0])}, {"h": ones.T @ ones}, ridge=0.0)
    weight = parameters["weight"]
    np.testing.assert_allclose(mixed["weight"][:, 0], weight.sum(axis=1), atol=1e-10)
    np.testing.assert_allclose(mixed["bias"], 2.0 * weight[:, 1].sum(axis=1), atol=1e-10)


@pytest.mark.parametrize("ridge", [-1.0, float("inf"), float("nan"), "1", None])
def test_bad_ridges(ridge: Any) -> None:
    parameters = {"w": np.ones((2, 3)), "v": np.ones((4, 2))}
    with pytest.raises(L0GateError, match=r"`ridge` is .*; it must be a finite number"):
        Pruner(LINEAR, strength=1.0).reconstruct(
            parameters, {"h": np.array([0])}, {"h": np.eye(2)}, ridge=ridge
        )
