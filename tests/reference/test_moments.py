"""Second moments of a net's neurons, against the sums over positions written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0gate.reference import Net, second_moments


def sums_of(h: np.ndarray) -> np.ndarray:
    """The sum of [h, 1] [h, 1]^T over all positions, h (..., n)."""
    rows = h.reshape(-1, h.shape[-1])
    return np.sum([np.outer(row, row) for row in np.c_[rows, np.ones(len(rows))]], axis=0)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("steps", [3, 40])  # with fewer positions than tokens, and with more
def test_every_reader_has_its_moments(cell: str, steps: int) -> None:
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

    def below(count: int) -> np.ndarray:
        part = Net(net.layers[:count])
        return part.apply({name: parameters[name] for name in part.parameter_names}, x)[0]

    embedded, first, second = parameters["e.weight"][x], below(2), below(3)
    nothing = np.zeros((1, 2, 5))
    wanted = {
        ("x", "first.weight_ih_l0"): embedded,
        ("x", "first.weight_ih_l0_reverse"): embedded,
        ("f0", "first.weight_hh_l0"): np.concatenate([nothing, first[:-1]])[..., :3],
        ("b0", "first.weight_hh_l0_reverse"): np.concatenate([first[1:], nothing])[..., 3:],
        ("f0", "second.weight_ih_l0"): first[..., :3],
        ("b0", "second.weight_ih_l0"): first[..., 3:],
        ("h1", "second.weight_hh_l0"): np.concatenate([nothing, second[:-1]]),
        ("h1", "out.weight"): second,
    }
    assert set(moments) == set(wanted)
    for key, h in wanted.items():
        np.testing.assert_allclose(moments[key], sums_of(h), rtol=1e-10, atol=1e-12)


def test_padding_does_not_count_and_initial_states_do() -> None:
    net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "out"}])
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=3, sizes={"rnn": 4, "out": 2}, dtype=np.float64)
    x, state = rng.normal(size=(6, 2, 3)), rng.normal(size=(2, 4))
    moments = second_moments(net, parameters, x, (state,), lengths=[6, 2])
    read = np.concatenate([x[:, 0], x[:2, 1]])
    np.testing.assert_allclose(moments["x", "rnn.weight_ih_l0"], sums_of(read), rtol=1e-10)
    y, _ = Net(net.layers[:1]).apply(
        {name: parameters[name] for name in net.parameter_names[:4]}, x, (state,), lengths=[6, 2]
    )
    hidden = np.concatenate([y[:, 0], y[:2, 1]])
    np.testing.assert_allclose(moments["h0", "out.weight"], sums_of(hidden), rtol=1e-10)
    before = np.concatenate([state[:1], y[:5, 0], state[1:], y[:1, 1]])
    np.testing.assert_allclose(moments["h0", "rnn.weight_hh_l0"], sums_of(before), rtol=1e-10)


def test_the_moments_of_batches_add_up() -> None:
    net = Net([{"type": "lstm", "name": "rnn"}, {"type": "linear", "name": "out"}])
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=3, sizes={"rnn": 4, "out": 2}, dtype=np.float64)
    x = rng.normal(size=(6, 4, 3))
    at_once = second_moments(net, parameters, x)
    parts = [second_moments(net, parameters, part) for part in (x[:, :1], x[:, 1:])]
    for key, value in at_once.items():
        np.testing.assert_allclose(parts[0][key] + parts[1][key], value, rtol=1e-10)


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
    read = np.tanh(x @ parameters["in.weight"].T + parameters["in.bias"])
    found = second_moments(net, parameters, x, engine="numpy")["x", "rnn.weight_ih_l0"]
    np.testing.assert_allclose(found, sums_of(read), rtol=1e-10)
