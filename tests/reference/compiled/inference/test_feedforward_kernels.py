"""Linear layers, activations and input products, also where they are packed densely."""

from __future__ import annotations

import numpy as np
import pytest
from program_cases import DTYPES, close, flat, program_layers

from l0gate.reference.compiled.inference.feedforward_kernels import columns_of, is_dense
from l0gate.reference.compiled.inference.program import Program


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(1, 3, 1), (2, 20, 70), (20, 70, 3)])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (7, 1), (3, 4), (120, 2), (2, 110), (1, 5)])
def test_many_inputs_of_few_neurons(dtype, hidden, T, B):
    """The input matrix is packed densely: where that is depends on the width of a vector."""
    layers, run = program_layers(dtype, hidden, inputs=80)
    program = Program(layers)
    rng = np.random.default_rng(T)
    x = 0.3 * rng.standard_normal((T, B, 80)).astype(dtype)
    before = [rng.standard_normal((B, size)).astype(dtype) for size in program.state_sizes]
    lengths = rng.integers(0, T + 1, B)
    for given in (None, lengths):
        y, after = program(x, flat(before, dtype), given)
        expected, last = run(x, before, given)
        close(y, expected, dtype)
        close(after, flat(last, dtype), dtype)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_dense_packing_is_never_wider(lanes):
    found = set()
    for gates in (3, 4):
        for H in range(1, 100):
            dense, blocked = (columns_of(lanes, gates, H, way) for way in (True, False))
            assert gates * H <= dense
            if is_dense(lanes, gates, H, 64):
                found.add(H)
                assert dense <= 0.8 * blocked
            assert not is_dense(lanes, gates, H, 63)
    assert found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize(("T", "B", "outputs"), [(1, 1, 1), (3, 5, 17), (2, 70, 40)])
def test_a_linear_layer_and_an_activation(dtype, function, T, B, outputs):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((outputs, 3)), rng.standard_normal(outputs)
    x = rng.standard_normal((T, B, 3))
    program = Program(
        [[("linear", False, weight.astype(dtype), bias.astype(dtype))], [(function, False)]]
    )
    y, state = program(x.astype(dtype), np.zeros(0, dtype))
    linear = x @ weight.T + bias
    expected = {
        "tanh": np.tanh(linear),
        "sigmoid": 1 / (1 + np.exp(-linear)),
        "relu": np.maximum(linear, 0),
    }[function]
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    )
    np.testing.assert_allclose(y, expected, **tolerance)
    assert state.size == 0
