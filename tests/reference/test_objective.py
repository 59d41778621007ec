"""The L0 objective: derivatives, probabilities, expectations."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import ENGINES, assert_close, assert_gradient, freeze

from l0gate import L0GateError
from l0gate.reference import (
    Net,
    expected_size,
    hard_concrete_open_probability,
    hard_concrete_sample,
    hard_concrete_test_gate,
    l0_objective,
    mean_squared_error,
    softmax_cross_entropy,
)

seeds = st.integers(0, 2**32 - 1)


DISTRIBUTIONS = [{}, {"beta": 0.5, "gamma": -0.2, "zeta": 1.3}]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(seed=seeds)
def test_gates_match_differences(distribution: dict[str, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_alpha, u = rng.uniform(-6, 5, 20), rng.uniform(0.01, 0.99, 20)
    functions = [
        lambda a: hard_concrete_sample(a, u, **distribution),
        lambda a: hard_concrete_test_gate(a, "mean", **distribution),
        lambda a: hard_concrete_test_gate(a, "median", **distribution),
        lambda a: hard_concrete_open_probability(a, **distribution),
    ]
    for function in functions:
        # Away from the kinks of the clip, which a difference would straddle.
        near = [function(log_alpha + e)[0] for e in (-3e-3, 3e-3)]
        smooth = ((near[0] > 0) == (near[1] > 0)) & ((near[0] < 1) == (near[1] < 1))
        weight = smooth * rng.standard_normal(20)
        value, derivative = function(log_alpha)
        assert value.min() >= 0
        assert value.max() <= 1
        assert not derivative[(value == 0) | (value == 1)].any()
        assert_gradient(
            lambda a, f=function, w=weight: float(f(a)[0] @ w), log_alpha, derivative * weight, seed
        )


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("log_alpha", [-4.0, -1.5, 0.0, 2.0])
def test_open_probability_is_that_of_the_samples(
    distribution: dict[str, float], log_alpha: float
) -> None:
    """Over an even grid of noise the share of open gates is exact to the grid's step."""
    u = (np.arange(100_000) + 0.5) / 100_000
    gates, _ = hard_concrete_sample(np.full_like(u, log_alpha), u, **distribution)
    probability, _ = hard_concrete_open_probability(np.array([log_alpha]), **distribution)
    assert np.mean(gates > 0) == pytest.approx(probability[0], abs=1.1e-5)


def test_where_the_test_gates_close() -> None:
    closing = np.log(0.1 / 1.1)
    around = np.array([closing - 1e-6, closing + 1e-6])
    assert ((hard_concrete_test_gate(around)[0] > 0) == [False, True]).all()
    median, _ = hard_concrete_test_gate(around * 2 / 3, "median")
    probability, _ = hard_concrete_open_probability(around * 2 / 3)
    assert ((median > 0) == [False, True]).all()
    assert ((probability > 0.5) == [False, True]).all()


def test_float32_gates_stay_float32() -> None:
    log_alpha = np.linspace(-8, 5, 7, dtype=np.float32)
    u = np.linspace(0.1, 0.9, 7, dtype=np.float32)
    for pair in (
        hard_concrete_sample(log_alpha, u),
        hard_concrete_test_gate(log_alpha),
        hard_concrete_open_probability(log_alpha),
    ):
        assert all(array.dtype == np.float32 for array in pair)


NETS = {
    "language": (
        [
            {"type": "embedding", "name": "e"},
            {"type": "lstm", "name": "r", "num_layers": 2},
            {"type": "linear", "name": "d"},
        ],
        {"e": 2, "r": (2, 3), "d": 4},
        {"x": 2, "h0": 2, "h1": 3},
    ),
    "bidirectional": (
        [
            {"type": "gru", "name": "r", "num_layers": 2, "bidirectional": True, "bias": False},
            {"type": "activation", "function": "tanh"},
            {"type": "linear", "name": "d", "bias": False},
        ],
        {"r": (2, 1, 1, 2), "d": 3},
        {"x": 4, "f0": 2, "b0": 1, "f1": 1, "b1": 2},
    ),
    "linear between": (
        [
            {"type": "linear", "name": "a"},
            {"type": "lstm", "name": "r"},
            {"type": "linear", "name": "b"},
            {"type": "gru", "name": "s"},
            {"type": "linear", "name": "c"},
            {"type": "linear", "name": "d"},
        ],
        {"a": 2, "r": 2, "b": 2, "s": 2, "c": 3, "d": 1},
        {"x": 2, "h0": 2, "x1": 2, "h1": 2},
    ),
}


def _net(name: str) -> tuple[Net, dict[str, np.ndarray], dict[str, int]]:
    layers, sizes, axes = NETS[name]
    net = Net(layers)
    parameters = net.init(np.random.default_rng(0), input_size=4, sizes=sizes, dtype=np.float64)
    return net, parameters, axes


def _count(name: str, net: Net, parameters: dict[str, np.ndarray], mask: dict[str, Any]) -> int:
    """The entries of all matrices that a binary mask leaves, counted one by one."""
    layout = {
        "language": {
            "e.weight": ([], ["x"]),
            "r.weight_ih_l0": (["h0"] * 4, ["x"]),
            "r.weight_hh_l0": (["h0"] * 4, ["h0"]),
            "r.weight_ih_l1": (["h1"] * 4, ["h0"]),
            "r.weight_hh_l1": (["h1"] * 4, ["h1"]),
            "d.weight": ([], ["h1"]),
        },
        "bidirectional": {
            "r.weight_ih_l0": (["f0"] * 3, ["x"]),
            "r.weight_hh_l0": (["f0"] * 3, ["f0"]),
            "r.weight_ih_l0_reverse": (["b0"] * 3, ["x"]),
            "r.weight_hh_l0_reverse": (["b0"] * 3, ["b0"]),
            "r.weight_ih_l1": (["f1"] * 3, ["f0", "b0"]),
            "r.weight_hh_l1": (["f1"] * 3, ["f1"]),
            "r.weight_ih_l1_reverse": (["b1"] * 3, ["f0", "b0"]),
            "r.weight_hh_l1_reverse": (["b1"] * 3, ["b1"]),
            "d.weight": ([], ["f1", "b1"]),
        },
        "linear between": {
            "a.weight": (["x"], []),
            "r.weight_ih_l0": (["h0"] * 4, ["x"]),
            "r.weight_hh_l0": (["h0"] * 4, ["h0"]),
            "b.weight": (["x1"], ["h0"]),
            "s.weight_ih_l0": (["h1"] * 3, ["x1"]),
            "s.weight_hh_l0": (["h1"] * 3, ["h1"]),
            "c.weight": ([], ["h1"]),
            "d.weight": ([], []),
        },
    }[name]
    assert set(layout) == {n for n in net.parameter_names if "weight" in n}
    total = 0
    for parameter, sides in layout.items():
        opened = [
            np.concatenate([mask[axis] for axis in side]) if side else np.ones(size, bool)
            for side, size in zip(sides, parameters[parameter].shape, strict=True)
        ]
        total += int(np.outer(*opened).sum())
    return total


@pytest.mark.parametrize("name", NETS)
def test_expected_size_is_the_mean_over_all_masks(name: str) -> None:
    net, parameters, axes = _net(name)
    rng = np.random.default_rng(1)
    log_alpha = {axis: rng.uniform(-3, 3, size) for axis, size in axes.items()}
    log_alpha.pop("h0", None)  # an axis without gates is not pruned
    p = np.concatenate([hard_concrete_open_probability(a)[0] for a in log_alpha.values()])
    ends = np.cumsum([len(a) for a in log_alpha.values()])[:-1]
    mean = 0.0
    for bits in itertools.product([False, True], repeat=len(p)):
        opened = np.array(bits)
        parts = dict(zip(log_alpha, np.split(opened, ends), strict=True))
        mask = {axis: parts.get(axis, np.ones(size, bool)) for axis, size in axes.items()}
        mean += np.where(opened, p, 1 - p).prod() * _count(name, net, parameters, mask)
    size, gradient = expected_size(net, parameters, log_alpha)
    assert size == pytest.approx(mean, rel=1e-10)
    assert_gradient(lambda a: expected_size(net, parameters, a)[0], log_alpha, gradient, 2)


def test_expected_size_of_the_papers_net() -> None:
    """The formula as the paper's appendix has it, for two LSTM layers and V words."""
    net, parameters, axes = _net("language")
    rng = np.random.default_rng(2)
    log_alpha = {axis: rng.uniform(-3, 3, size) for axis, size in axes.items()}
    z, s1, s2 = (hard_concrete_open_probability(log_alpha[axis])[0] for axis in ("x", "h0", "h1"))

    def d(s: np.ndarray) -> float:
        return s.sum() ** 2 - (s**2).sum() + s.sum()

    recurrent = 4 * (z.sum() * s1.sum() + d(s1) + s1.sum() * s2.sum() + d(s2))
    expected = recurrent + 4 * s2.sum() + 4 * z.sum()
    assert expected_size(net, parameters, log_alpha)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_objective_matches_differences(
    engine: str, name: str, distribution: dict[str, float]
) -> None:
    net, parameters, axes = _net(name)
    rng = np.random.default_rng(3)
    log_alpha = {axis: rng.uniform(-1, 1, size) for axis, size in axes.items()}
    u = {axis: rng.uniform(0.3, 0.7, size) for axis, size in axes.items()}  # inside the clip
    tokens = net.layers[0]["type"] == "embedding"
    x = rng.integers(0, 4, (3, 2)) if tokens else rng.standard_normal((3, 2, 4))
    y, state = net.apply(parameters, x)
    options = {
        "strength": 0.01,
        "loss": "cross_entropy" if tokens else "mse",
        "engine": engine,
        **distribution,
    }
    targets = rng.integers(0, 4, (3, 2)) if tokens else rng.standard_normal(y.shape)

    def objective(at: dict[str, Any]) -> Any:
        return l0_objective(net, at["parameters"], at["log_alpha"], u, x, targets, state, **options)

    at = freeze({"parameters": parameters, "log_alpha": log_alpha})
    value, gradients, log_alpha_gradients, new_state = objective(at)
    assert_gradient(
        lambda at: objective(at)[0],
        at,
        {"parameters": gradients, "log_alpha": log_alpha_gradients},
        4,
    )
    gates = {
        axis: hard_concrete_sample(a, u[axis], **distribution)[0] for axis, a in log_alpha.items()
    }
    y, expected_state, _ = net.forward(parameters, x, state, gates=gates, engine=engine)
    assert_close(new_state, expected_state)
    task, _ = (softmax_cross_entropy if tokens else mean_squared_error)(y, targets)
    size, _ = expected_size(net, parameters, log_alpha, **distribution)
    assert value == pytest.approx(task + 0.01 * size, rel=1e-12)


def test_wrong_arguments_are_refused() -> None:
    a = np.zeros(2)
    with pytest.raises(L0GateError, match="`rule` is 'mode'; allowed: mean, median"):
        hard_concrete_test_gate(a, "mode")
    with pytest.raises(L0GateError, match=r"`u` has shape \(3,\); expected \(2,\)"):
        hard_concrete_sample(a, np.full(3, 0.5))
    for value in (0.0, 1.0, np.nan):
        with pytest.raises(L0GateError, match="`u` must lie strictly between 0 and 1"):
            hard_concrete_sample(a, np.array([0.5, value]))
    net, parameters, _ = _net("language")
    with pytest.raises(L0GateError, match="axis 'h7'; this net has x, h0, h1"):
        expected_size(net, parameters, {"h7": a})
    with pytest.raises(L0GateError, match=r"`log_alpha\['h1'\]` has shape \(2,\); expected \(3,\)"):
        expected_size(net, parameters, {"h1": a})
    with pytest.raises(L0GateError, match=r"`u` has the axes \[\]; expected \['x'\]"):
        l0_objective(net, parameters, {"x": a}, {}, None, None, strength=1)
    with pytest.raises(L0GateError, match="`loss` is 'l1'; allowed: cross_entropy, mse"):
        l0_objective(net, parameters, {}, {}, None, None, strength=1, loss="l1")
