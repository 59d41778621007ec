"""Steps layer by layer in NumPy: the same as sequences, for all kinds of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference_cases import assert_close, freeze, leaves, tree_map

from l0gate.reference import Net
from l0gate.reference.runtime.numpy_step import numpy_step

LAYERS: list[dict[str, Any]] = [
    {"type": "lstm", "name": "a"},
    {"type": "activation", "function": "tanh"},
    {"type": "linear", "name": "b"},
    {"type": "activation", "function": "relu"},
    {"type": "gru", "name": "c", "bias": False},
    {"type": "activation", "function": "sigmoid"},
    {"type": "gru", "name": "d", "reset_after": False},
    {"type": "linear", "name": "e", "bias": False},
    {"type": "lstm", "name": "f", "bias": False},
]
SIZES = {"a": 4, "b": 3, "c": 5, "d": 2, "e": 3, "f": 4}


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_equal_a_sequence(dtype: type, batch: tuple[int, ...], tokens: bool) -> None:
    net = Net([{"type": "embedding", "name": "table"}] * tokens + LAYERS)
    rng = np.random.default_rng(0)
    sizes = SIZES | {"table": 2} if tokens else SIZES
    parameters = net.init(rng, input_size=6, sizes=sizes, dtype=dtype)
    shape = (5, *batch)
    x = rng.integers(0, 6, shape) if tokens else rng.standard_normal((*shape, 6)).astype(dtype)
    y, last = net.apply(parameters, x if batch else x[:, None], engine="numpy")
    if not batch:
        y, last = y[:, 0], tree_map(lambda array: array[0], last)
    step, state = numpy_step(net.chain, freeze(parameters)), tree_map(np.zeros_like, last)
    for t, x_t in enumerate(x):
        y_t, state = step(x_t, freeze(state))
        assert_close(y_t, y[t], dtype)
    assert_close(state, last, dtype)


@pytest.mark.parametrize("layers", [LAYERS[:1], LAYERS[4:5], LAYERS[6:7]])
def test_the_output_is_not_the_state(layers: list[dict[str, Any]]) -> None:
    net = Net(layers)
    parameters = net.init(np.random.default_rng(0), input_size=2, sizes={layers[0]["name"]: 3})
    _, zeros = net.apply(parameters, np.zeros((0, 1, 2), np.float32), engine="numpy")
    y, state = numpy_step(net.chain, parameters)(np.ones((1, 2), np.float32), zeros)
    np.testing.assert_array_equal(y, leaves(state)[0])
    for array in leaves(state):
        assert not np.shares_memory(y, array)
