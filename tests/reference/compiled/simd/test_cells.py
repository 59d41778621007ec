"""Cells on vectors: against NumPy, exact and approximate."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from l0gate.reference.compiled.inference.program import Program
from l0gate.reference.compiled.simd import cells
from l0gate.reference.compiled.simd.lanes import lanes_of


def test_exact_float32_is_the_float64_result_rounded_at_every_activation():
    """Without products, one step of an LSTM is nothing but activations."""
    x = np.random.default_rng(3).uniform(-8, 8, (1, 500, 1)).astype(np.float32)
    weight_ih, weight_hh = np.float32([[0.5], [-1], [1.25], [2]]), np.zeros((4, 1), np.float32)
    program = Program([[("lstm", False, weight_ih, weight_hh, None)]], exact=True)
    c = np.linspace(-3, 3, 500, dtype=np.float32)
    y, _ = program(x, np.concatenate([np.zeros(500, np.float32), c]))

    def rounded(function, a):
        return function(a.astype(np.float64)).astype(np.float32)

    def sigmoid(a):
        # The library's exp is rounded; what follows is float32.
        return 1 / (rounded(np.exp, -a) + np.float32(1))

    i, f, g, o = (weight_ih * x.ravel()).astype(np.float32)
    expected = sigmoid(f).astype(np.float64) * c + (sigmoid(i) * rounded(np.tanh, g))
    h = sigmoid(o) * rounded(np.tanh, expected.astype(np.float32))
    np.testing.assert_allclose(y.ravel(), h, rtol=3e-7)


def test_fast_activations_of_a_block_are_those_of_the_loops():
    """Sums of products of one number each: the gates are the activations themselves."""
    x = np.linspace(-20, 20, 4001, dtype=np.float32).reshape(1, -1, 1)
    weight = np.float32([[1], [0], [0]])  # r = sigmoid(x), z = 1/2, n = tanh(r * hn)
    program = Program(
        [[("gru", False, weight, np.zeros((3, 1), np.float32), None, np.float32([20]), True)]]
    )
    y, _ = program(x, np.zeros(4001, np.float32))
    r = 1 / (1 + np.exp(-x.ravel().astype(np.float64)))
    np.testing.assert_allclose(y.ravel(), np.tanh(20 * r) / 2, rtol=2e-6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(i, f, g, o, c):
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def gru(xr, xz, xn, hr, hz, hn, h):
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    return ((1 - z) * n + z * h,)


def gates(r, z, h):
    return sigmoid(r) * h, sigmoid(z)


def update(n, z, h):
    return ((1 - z) * np.tanh(n) + z * h,)


CELLS = {
    "lstm": (lstm, 5, 2, cells.lstm_block, cells.exact_lstm_block),
    "gru": (gru, 7, 1, cells.gru_block, cells.exact_gru_block),
    "gru gates": (gates, 3, 2, cells.gru_gates_block, cells.exact_gru_gates_block),
    "gru update": (update, 3, 1, cells.gru_update_block, cells.exact_gru_update_block),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_vector_of_neurons_is_updated_as_by_numpy(cell, exact, dtype):
    formula, inputs, outputs, fast, exactly = CELLS[cell]
    function, count = exactly if exact else fast, inputs + outputs
    lanes = lanes_of(np.dtype(dtype))

    @numba.njit
    def run(like, addresses):
        function(like, addresses)

    x = np.random.default_rng(0).uniform(-4, 4, count * lanes).astype(dtype)
    given = x.astype(np.float64).reshape(count, lanes)[:inputs].copy()
    first = x.ctypes.data // x.itemsize
    run(x[0], tuple(range(first, first + len(x), lanes)))
    found = x.reshape(count, lanes)
    np.testing.assert_array_equal(found[:inputs], given.astype(dtype))
    expected = np.array(formula(*given))
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    )
    np.testing.assert_allclose(found[inputs:], expected, **tolerance)
