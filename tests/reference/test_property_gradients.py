"""Derivatives by complex step: f(x + ih).imag / h is f'(x) to the last digits, for no h too small.

It needs a formula that is analytic, so the compiled scans and the losses, which are not written
for complex numbers, are compared with plain ones that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import ENGINES, Problem, dot, normal_like, problems, tree_map
from strategies import examples, layouts

from l0gate import Budget, HardConcrete, Layout, Pruner
from l0gate._chain import Chain
from l0gate.backends._numpy import NumpyBackend
from l0gate.layout.cost import Cost
from l0gate.layout.fold import fold, gate_gradients
from l0gate.reference import (
    Net,
    gru_scan,
    hard_concrete_open_probability,
    hard_concrete_sample,
    hard_concrete_test_gate,
    lstm_scan,
)

STEP = 1e-30
DISTRIBUTIONS = [HardConcrete(), HardConcrete(rule="median"), HardConcrete(0.5, -0.2, 1.3)]
seeds = st.integers(0, 2**32 - 1)


class ComplexNumpy:
    """NumPy's names, with the continuations of the functions that it has for real numbers only."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def logaddexp(a: Any, b: Any) -> Any:
        return np.log(np.exp(a) + np.exp(b))

    @staticmethod
    def clip(x: Any, low: float, high: float) -> Any:
        return np.where(x.real < low, low, np.where(x.real > high, high, x))


class ComplexBackend(NumpyBackend):
    name = "complex"
    xp = ComplexNumpy()


COMPLEX = ComplexBackend()


def derivative_along(function: Callable[[Any], Any], at: Any, direction: Any) -> np.ndarray:
    """d/de function(at + e direction), for nested arrays."""
    moved = tree_map(lambda a, d: a + 1j * STEP * d, at, direction)
    return np.asarray(function(moved)).imag / STEP


def assert_gradient(function: Callable[[Any], Any], at: Any, gradient: Any, seed: int) -> None:
    """One random projection, to what rounding leaves of a sum."""
    direction = normal_like(np.random.default_rng(seed), at)
    terms = dot(tree_map(abs, gradient), tree_map(abs, direction))
    found = float(derivative_along(function, at, direction))
    assert abs(dot(gradient, direction) - found) <= 1e-12 * max(1.0, terms)


# Cells and whole nets --------------------------------------------------------------------------


def run(
    layers: list[dict[str, Any]],
    p: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: Any = None,
    lengths: Any = None,
    gates: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """A chain, time first, in any dtype: the plain scans, with gates on what they read."""
    states, last, y, depth = iter(state or ()), [], x, 0
    gates = gates or {}
    read = gates.get("x")
    for layer in layers:
        prefix = f"{layer['name']}." if layer["name"] else ""
        if layer["type"] == "embedding":
            y = p[f"{prefix}weight"][x]
            continue
        if layer["type"] == "linear":
            y = (y if read is None else y * read) @ p[f"{prefix}weight"].T
            y = y + (p[f"{prefix}bias"] if layer["bias"] else 0)
            continue
        ends = [("f", ""), ("b", "_reverse")] if layer["bidirectional"] else [("h", "")]
        for k in range(layer["num_layers"]):
            ys, own = [], []
            for letter, suffix in ends:
                axis = f"{letter}{depth}"
                w, u = (p[f"{prefix}weight_{s}_l{k}{suffix}"] for s in ("ih", "hh"))
                zero = np.zeros(len(w), w.dtype)
                b, c = (p.get(f"{prefix}bias_{s}_l{k}{suffix}", zero) for s in ("ih", "hh"))
                where = {"lengths": lengths, "reverse": bool(suffix), "gate": gates.get(axis)}
                gx = (y if read is None else y * read) @ w.T + b
                size = u.shape[1]
                start = np.zeros((gx.shape[1], size), gx.dtype)
                if layer["type"] == "lstm":
                    initial = next(states, (start, start))
                    out, *final, _ = lstm_scan(gx + c, u, *initial, **where)
                else:
                    after, initial = layer["reset_after"], next(states, start)
                    gx[..., : 2 * size] += c[: 2 * size]
                    gx[..., 2 * size :] += 0 if after else c[2 * size :]
                    out, final, _ = gru_scan(gx, u, c[2 * size :], initial, after, **where)
                ys.append(out)
                last.append(tuple(final) if isinstance(final, list) else final)
                own.append(gates.get(axis))
            y = np.concatenate(ys, axis=2)
            read = None if own[0] is None else np.concatenate(own)
            depth += 1
    return y, tuple(last)


@pytest.mark.parametrize("engine", ENGINES)
@examples(2)
@given(problem=problems(empty=True, ragged=True))
def test_every_cell(engine: str, problem: Problem) -> None:
    """All gradients of LSTMs and GRUs: parameters, inputs, states and gates."""
    net = Net(problem.net.layers)
    x = problem.x.swapaxes(0, 1) if problem.net.batch_first else problem.x
    at = {"p": problem.parameters, "x": x, "state": problem.state, "gates": problem.gates}
    y, state, tape = net.forward(
        problem.parameters,
        x,
        problem.state,
        lengths=problem.lengths,
        gates=problem.gates,
        engine=engine,
    )
    toward = normal_like(np.random.default_rng(problem.seed), (y, state))
    gradients, dx, dstate, dgates = net.backward(tape, *toward)

    def value(at: dict[str, Any]) -> complex:
        found = run(net.layers, **at, lengths=problem.lengths)
        pairs: list[Any] = []
        tree_map(lambda a, w: pairs.append((a * w).sum()), found, toward)
        return sum(pairs)

    assert_gradient(
        value, at, {"p": gradients, "x": dx, "state": dstate, "gates": dgates}, problem.seed
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("by_budget", [False, True])
def test_the_objective_of_a_whole_training_step(
    engine: str, cell: str, loss: str, by_budget: bool
) -> None:
    """Task loss with sampled gates plus penalty, in parameters and log_alpha together."""
    recurrent: dict[str, Any] = {"type": cell[:4].rstrip("_"), "name": "rnn", "num_layers": 2}
    if cell != "lstm":
        recurrent["reset_after"] = cell == "gru"
    layers = [
        {"type": "embedding", "name": "table"},
        recurrent,
        {"type": "linear", "name": "out"},
    ]
    rng, net, chain = np.random.default_rng(4), Net(layers), Chain(layers)
    sizes = {"table": 3, "rnn": (4, 2), "out": 5}
    parameters = net.init(rng, input_size=6, sizes=sizes, dtype=np.float64)
    tokens, lengths = rng.integers(0, 6, (4, 3)), np.array([4, 1, 3])
    targets = rng.integers(0, 5, (4, 3)) if loss == "cross_entropy" else rng.normal(size=(4, 3, 5))
    budget = Budget(parameters=0.5) if by_budget else None
    pruner = Pruner(chain.layout, budget, None if by_budget else 0.01)
    state = pruner.init(parameters)
    state["multipliers"] = np.array([0.7, 3.0])
    axes = pruner.sizes
    log_alpha = {axis: rng.uniform(-1, 1, size) for axis, size in axes.items()}
    state["log_alpha"] = log_alpha
    state["mask"]["h0"] = np.array([-1.0, 0.0, 0.3, -1.0])  # some gates are decided
    noise = {axis: rng.uniform(0.3, 0.7, size) for axis, size in axes.items()}  # inside the clip

    gated = pruner.gate(parameters, state, noise)
    assert all(
        ((g > 0) & (g < 1) | (state["mask"][a] == 0)).all()
        for a, g in pruner.gates(state, noise).items()
    )
    value, gradients, _ = net.loss_and_gradients(
        gated, tokens, targets, loss=loss, lengths=lengths, engine=engine
    )
    gradients, of_log_alpha = pruner.pullback(parameters, state, noise, gradients)
    penalty = pruner.penalty_gradient(state, 0.3)
    gradient = {
        "parameters": gradients,
        "log_alpha": {axis: of_log_alpha[axis] + penalty[axis] for axis in axes},
    }
    analytic = Pruner(chain.layout, budget, None if by_budget else 0.01, backend=COMPLEX)
    analytic.bind(parameters)
    live = np.arange(4)[:, None] < lengths

    def objective(at: dict[str, Any]) -> Any:
        moved = {**state, "log_alpha": at["log_alpha"]}
        inner = analytic.gate({n: v + 0j for n, v in at["parameters"].items()}, moved, noise)
        y, _ = run(net.layers, inner, tokens, None, lengths)
        if loss == "mse":
            task = np.square(y - targets)[live].mean()
        else:
            chosen = np.take_along_axis(y, targets[..., None], 2)[..., 0]
            task = (np.log(np.exp(y).sum(axis=2)) - chosen)[live].mean()
        return task + analytic.penalty(moved, 0.3)

    at = {"parameters": parameters, "log_alpha": log_alpha}
    as_complex = objective(tree_map(lambda a: a + 0j, at))
    assert value + float(pruner.penalty(state, 0.3)) == pytest.approx(as_complex.real, rel=1e-12)
    for seed in range(3):
        assert_gradient(objective, at, gradient, seed)
    for part in at:  # each alone, so that neither hides the other
        others = {k: v for k, v in at.items() if k != part}
        assert_gradient(
            lambda own, others=others: objective({**others, **own}),
            {part: at[part]},
            {part: gradient[part]},
            5,
        )


# What follows from a layout ----------------------------------------------------------------------


@examples(2)
@given(case=layouts(), seed=seeds)
def test_folding(case: tuple[Layout, dict[str, int]], seed: int) -> None:
    """In parameters and gates at once; every entry of a gate's gradient by itself."""
    layout, sizes = case
    rng = np.random.default_rng(seed)
    parameters = arrays_for(layout, sizes, seed)
    gates = {axis: rng.uniform(size=n) for axis, n in sizes.items()}
    weights = normal_like(rng, parameters)

    def value(at: dict[str, Any]) -> Any:
        inner = fold(layout, {n: v + 0j for n, v in at["p"].items()}, at["gates"], COMPLEX)
        return sum((inner[name] * weights[name]).sum() for name in weights)

    found = gate_gradients(layout, parameters, gates, weights, COMPLEX)
    of_parameters = fold(layout, weights, gates, COMPLEX)
    assert_gradient(
        value, {"p": parameters, "gates": gates}, {"p": of_parameters, "gates": found}, seed
    )
    for axis, n in sizes.items():
        for j in range(n):
            one = tree_map(np.zeros_like, {"p": parameters, "gates": gates})
            one["gates"][axis][j] = 1.0
            derivative = derivative_along(value, {"p": parameters, "gates": gates}, one)
            assert found[axis][j] == pytest.approx(float(derivative), rel=1e-11, abs=1e-11)


@examples(2)
@given(case=layouts(), seed=seeds, measure=st.sampled_from(["parameters", "multiply_adds"]))
def test_the_expected_cost(case: tuple[Layout, dict[str, int]], seed: int, measure: str) -> None:
    layout, sizes = case
    rng = np.random.default_rng(seed)
    cost = Cost(layout, arrays_for(layout, sizes), measure)
    p = {axis: rng.uniform(size=n) for axis, n in sizes.items()}
    slopes = cost.expected_gradient(p, COMPLEX)
    for axis, n in sizes.items():
        for j in range(n):
            one = {a: np.zeros(m) for a, m in sizes.items()}
            one[axis][j] = 1.0
            derivative = float(derivative_along(lambda p: cost.expected(p, COMPLEX), p, one))
            assert slopes[axis][j] == pytest.approx(derivative, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gates", DISTRIBUTIONS)
@given(seed=seeds, progress=st.floats(0, 1), sampled=st.booleans())
def test_pullback_and_penalty(
    name: str, gates: HardConcrete, seed: int, progress: float, sampled: bool
) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = arrays_for(layout, sizes, seed)
    rng = np.random.default_rng(seed)
    plain, analytic = (
        Pruner(layout, Budget(parameters=0.9), gates=gates, backend=backend)
        for backend in (None, COMPLEX)
    )
    analytic.bind(parameters)
    log_alpha = {axis: rng.uniform(-3, 3, n) for axis, n in sizes.items()}
    state = {**plain.init(parameters, log_alpha=log_alpha), "multipliers": np.array([0.7, 3.0])}
    noise = {a: rng.uniform(0.05, 0.95, n) for a, n in sizes.items()} if sampled else None
    weights = normal_like(rng, parameters)

    def value(at: dict[str, Any]) -> Any:
        moved = {**state, "log_alpha": at["log_alpha"]}
        inner = analytic.gate({n: v + 0j for n, v in at["p"].items()}, moved, noise)
        task = sum((inner[n] * weights[n]).sum() for n in weights)
        return task + analytic.penalty(moved, progress)

    of_parameters, of_log_alpha = plain.pullback(parameters, state, noise, weights)
    penalty = plain.penalty_gradient(state, progress)
    found = {"p": of_parameters, "log_alpha": {a: of_log_alpha[a] + penalty[a] for a in sizes}}
    assert_gradient(value, {"p": parameters, "log_alpha": log_alpha}, found, seed)


@pytest.mark.parametrize("gates", DISTRIBUTIONS)
def test_derivatives_of_the_gates(gates: HardConcrete) -> None:
    """Entry by entry on a grid, clipped gates included, whose derivative is 0."""
    log_alpha = np.linspace(-7.9, 4.9, 301)
    u = np.random.default_rng(0).uniform(0.01, 0.99, 301)
    ones = np.ones(301)
    for function, derivative in (
        (lambda a: gates.sample(a, u, COMPLEX), gates.sample_slope(log_alpha, u)),
        (lambda a: gates.test_gate(a, COMPLEX), gates.test_gate_slope(log_alpha)),
        (lambda a: gates.open_probability(a, COMPLEX), gates.open_probability_slope(log_alpha)),
    ):
        expected = derivative_along(function, log_alpha, ones)
        np.testing.assert_allclose(derivative, expected, rtol=1e-11, atol=1e-14)
    # The reference derives the same again, by hand.
    options = {"beta": gates.beta, "gamma": gates.gamma, "zeta": gates.zeta}
    for ours, theirs in (
        (gates.sample_slope(log_alpha, u), hard_concrete_sample(log_alpha, u, **options)[1]),
        (
            gates.test_gate_slope(log_alpha),
            hard_concrete_test_gate(log_alpha, gates.rule, **options)[1],
        ),
        (
            gates.open_probability_slope(log_alpha),
            hard_concrete_open_probability(log_alpha, **options)[1],
        ),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)
