"""Second moments of a net's neurons, against the mean over positions written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0gate.reference import Net, second_moments


def mean_of_products(h: np.ndarray) -> np.ndarray:
    """The mean of h h^T over all positions, h (positions, n)."""
    return np.mean([np.outer(row, row) for row in h], axis=0)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("steps", [3, 40])  # with fewer positions than tokens, and with more
def test_every_axis_has_its_moments(cell: str, steps: int) -> None:
    net = Net(
        [
            {"type": "embedding", "name": "e"},
            {"type": cell, "name": "first", "bidirectional": True},
            {"type": cell, "name": "second"},
            {"type": "linear", "name": "out"},
        ]
    )
    rng = np.random.default_rng(0)
    sizes: dict[str, Any] = {"e": 4, "first": [3, 2], "second": 5, "out": 6}
    parameters = net.init(rng, input_size=9, sizes=sizes, dtype=np.float64)
    x = rng.integers(0, 9, (steps, 2))
    moments = second_moments(net, parameters, x)
    assert {axis: m.shape for axis, m in moments.items()} == {
        "x": (4, 4),
        "f0": (3, 3),
        "b0": (2, 2),
        "h1": (5, 5),
    }
    embedded = parameters["e.weight"][x].reshape(-1, 4)
    np.testing.assert_allclose(moments["x"], mean_of_products(embedded), rtol=1e-10, atol=1e-12)
    below = Net(net.layers[:2])
    names = below.parameter_names
    y, _ = below.apply({name: parameters[name] for name in names}, x)
    hidden = y.reshape(-1, 5)
    np.testing.assert_allclose(moments["f0"], mean_of_products(hidden[:, :3]), rtol=1e-10)
    np.testing.assert_allclose(moments["b0"], mean_of_products(hidden[:, 3:]), rtol=1e-10)


def test_padding_does_not_count() -> None:
    net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "out"}])
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=3, sizes={"rnn": 4, "out": 2}, dtype=np.float64)
    x = rng.normal(size=(6, 2, 3))
    moments = second_moments(net, parameters, x, lengths=[6, 2])
    read = np.concatenate([x[:, 0], x[:2, 1]])
    np.testing.assert_allclose(moments["x"], mean_of_products(read), rtol=1e-10)
    y, _ = Net(net.layers[:1]).apply(
        {name: parameters[name] for name in net.parameter_names[:4]}, x, lengths=[6, 2]
    )
    hidden = np.concatenate([y[:, 0], y[:2, 1]])
    np.testing.assert_allclose(moments["h0"], mean_of_products(hidden), rtol=1e-10)


def test_features_behind_a_linear_layer_are_an_axis_too() -> None:
    net = Net(
        [
            {"type": "linear", "name": "in"},
            {"type": "activation", "function": "tanh"},
            {"type": "lstm", "name": "rnn"},
        ]
    )
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=3, sizes={"in": 4, "rnn": 2}, dtype=np.float64)
    x = rng.normal(size=(5, 2, 3))
    read = np.tanh(x @ parameters["in.weight"].T + parameters["in.bias"]).reshape(-1, 4)
    found = second_moments(net, parameters, x, engine="numpy")["x"]
    np.testing.assert_allclose(found, mean_of_products(read), rtol=1e-10)
