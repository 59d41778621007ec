"""Activations: float32 within 4 units in the last place, exact ones, and ReLU."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from l0gate.reference.compiled.simd import activations
from l0gate.reference.compiled.training import loops


def error_in_units(function, exact, x):
    y = np.empty_like(x)
    function(y, x)
    expected = exact(x.astype(np.float64))
    return np.abs(y - expected) / np.spacing(np.abs(expected).astype(np.float32))


@pytest.mark.parametrize(
    ("function", "exact"),
    [(loops.set_sigmoid, lambda x: 1 / (1 + np.exp(-x))), (loops.set_tanh, np.tanh)],
    ids=["sigmoid", "tanh"],
)
def test_float32_activations_are_within_4_units_in_the_last_place(function, exact):
    small = np.geomspace(1e-30, 20, 100_000)
    x = np.concatenate([np.linspace(-20, 20, 1_000_001), small, -small]).astype(np.float32)
    assert error_in_units(function, exact, x).max() <= 4
    ends = np.float32([-np.inf, -1e38, -100, 100, 1e38, np.inf, np.nan])
    found = np.empty_like(ends)
    function(found, ends)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, exact(ends.astype(np.float64)), rtol=0, atol=1e-30)


@numba.njit
def exact(y, x):
    for i in range(len(x)):
        y[0, i], y[1, i] = activations.exact_sigmoid_of(x[i]), activations.exact_tanh_of(x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_activations_are_the_librarys_in_float64(dtype):
    x = np.concatenate([np.linspace(-30, 30, 10_001), [np.inf, -np.inf, np.nan]]).astype(dtype)
    y = np.empty((2, len(x)), dtype)
    exact(y, x)
    wide = x.astype(np.float64)
    expected = 1 / (1 + np.exp(-wide)), np.tanh(wide)
    np.testing.assert_allclose(y, expected, rtol=3e-7 if dtype == np.float32 else 1e-15, atol=0)


@numba.njit
def relu(y, x):
    for i in range(len(x)):
        y[i] = activations.relu_of(x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_keeps_what_is_positive_and_nan(dtype):
    x = np.array([-np.inf, -2, -0.0, 0, 1e-30, 3, np.inf, np.nan], dtype)
    y = np.empty_like(x)
    relu(y, x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
