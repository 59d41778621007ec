"""Products over all positions, with activations as they are or as rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference_cases import ENGINES, assert_close, assert_gradient, dot

from l0gate.reference import Net
from l0gate.reference._products import (
    Gathered,
    input_gradient,
    product,
    sum_by_index,
    summed,
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("steps", [1, 4])  # fewer and more positions than words
@pytest.mark.parametrize("following", [["tanh", "lstm"], ["lstm"], ["linear"], ["tanh"], []])
def test_whatever_follows_an_embedding(engine: str, steps: int, following: list[str]) -> None:
    """Its rows may be multiplied before they are gathered, but not run through a function."""
    layers: list[dict[str, Any]] = [{"type": "embedding", "name": "embedding"}]
    for kind in following:
        layers.append(
            {"type": "activation", "function": kind}
            if kind == "tanh"
            else {"type": kind, "name": kind}
        )
    net, rng = Net(layers), np.random.default_rng(0)
    sizes = {layer["name"]: 3 for layer in layers if "name" in layer}
    parameters = net.init(rng, input_size=5, sizes=sizes, dtype=np.float64)
    tokens = rng.integers(0, 5, (steps, 2))
    y, _, tape = net.forward(parameters, tokens, engine=engine)
    dy = rng.standard_normal(y.shape)
    gradients, dx, _, _ = net.backward(tape, dy)
    assert dx is None
    rest = Net(layers[1:] or [{"type": "linear", "name": "same", "bias": False}])
    read = parameters["embedding.weight"][tokens]
    assert_close(y, rest.apply({**parameters, "same.weight": np.eye(3)}, read)[0])
    assert_gradient(
        lambda p: dot(net.forward(p, tokens, engine=engine)[0], dy), parameters, gradients, 1
    )


@pytest.mark.parametrize("gated", [False, True])
def test_rows_of_a_table_are_multiplied_before_they_are_gathered(gated: bool) -> None:
    rng = np.random.default_rng(0)
    table, tokens = rng.standard_normal((4, 3)), rng.integers(0, 4, (5, 2))
    weight, bias, dy = (rng.standard_normal(shape) for shape in ((6, 3), 6, (5, 2, 6)))
    z = rng.uniform(size=3) if gated else None
    rows_of, x = Gathered(table, tokens), table[tokens]
    assert_close(product(rows_of, weight, bias, z), product(x, weight, bias, z))
    (read, dread), (plain, dplain) = summed(rows_of, dy), summed(x, dy)
    assert_close(dread.T @ read, dplain.T @ plain)
    dx = input_gradient(dplain, weight, z, x)
    assert dx.shape == x.shape
    dtable = input_gradient(dread, weight, z, rows_of)
    assert_close(dtable, sum_by_index(tokens.ravel(), dx.reshape(10, 3), 4))


def test_rows_with_one_index_are_summed() -> None:
    rng = np.random.default_rng(1)
    index, rows = rng.integers(0, 9, 50), rng.standard_normal((50, 3))
    expected = np.zeros((9, 3))
    np.add.at(expected, index, rows)
    assert_close(sum_by_index(index, rows, 9), expected)
    assert_close(sum_by_index(index[:0], rows[:0], 2), np.zeros((2, 3)))
