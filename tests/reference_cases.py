"""Random recurrent nets with inputs for the tests of `reference`, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from l0gate.reference import Net

ENGINES = ("numpy", "numba")
TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 1e-6}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}


# A chain with layers of all types but an embedding, its sizes, and its axes.
MIXED = [
    {"type": "linear", "name": "encoder", "bias": False},
    {"type": "activation", "function": "tanh"},
    {"type": "gru", "name": "a", "reset_after": False, "bidirectional": True},
    {"type": "activation", "function": "relu"},
    {"type": "linear", "name": "between"},
    {"type": "activation", "function": "sigmoid"},
    {"type": "lstm", "name": "b", "num_layers": 2},
    {"type": "linear", "name": "decoder"},
]


MIXED_SIZES = {"encoder": 5, "a": (3, 4), "between": 6, "b": (4, 3), "decoder": 2}


MIXED_GATES = {"x": 5, "f0": 3, "b0": 4, "x1": 6, "h1": 4, "h2": 3}


@dataclass(frozen=True)
class Problem:
    """A net of recurrent layers alone, named "", with everything that a pass takes."""

    net: Net
    parameters: dict[str, np.ndarray]
    x: np.ndarray
    state: tuple[Any, ...]
    lengths: np.ndarray | None
    gates: dict[str, np.ndarray]
    seed: int

    @property
    def layer(self) -> dict[str, Any]:
        return self.net.layers[0]


@st.composite
def problems(
    draw: st.DrawFn, empty: bool = False, ragged: bool = False, bidirectional: bool | None = None
) -> Problem:
    """Stacked LSTMs and GRUs in float64; `empty` allows T, B and lengths of 0."""
    kind = draw(st.sampled_from(["lstm", "gru"]))
    layer = {
        "type": kind,
        "name": "",
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()) if bidirectional is None else bidirectional,
        "bias": draw(st.booleans()),
    }
    if kind == "gru":
        layer["reset_after"] = draw(st.booleans())
    low = 0 if empty else 1
    steps, batch = draw(st.integers(low, 6)), draw(st.integers(low, 4))
    inputs, hidden = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    net = Net([layer], batch_first=draw(st.booleans()))
    rng = np.random.default_rng(seed := draw(st.integers(0, 2**32 - 1)))
    count = layer["num_layers"] * (1 + layer["bidirectional"])
    sizes = rng.integers(1, 6, count) if ragged else [hidden] * count
    parameters = net.init(rng, input_size=inputs, sizes={"": sizes}, dtype=np.float64)
    parameters = {name: 2 * array for name, array in parameters.items()}
    state = tuple(
        tuple(rng.standard_normal((2, batch, size)))
        if kind == "lstm"
        else rng.standard_normal((batch, size))
        for size in sizes
    )
    lengths = None
    if draw(st.booleans()) and (empty or steps):
        lengths = rng.integers(min(low, steps), steps + 1, batch)
        if batch and not empty:
            lengths[rng.integers(batch)] = steps  # as torch packs them
    axes = (
        [f"{letter}{k}" for k in range(layer["num_layers"]) for letter in "fb"]
        if layer["bidirectional"]
        else [f"h{k}" for k in range(layer["num_layers"])]
    )
    gates = {axis: rng.uniform(size=size) for axis, size in zip(axes, sizes, strict=True)}
    x = rng.standard_normal((steps, batch, inputs))
    return Problem(
        net,
        parameters,
        np.ascontiguousarray(x.swapaxes(0, 1)) if net.batch_first else x,
        state,
        lengths,
        {"x": rng.uniform(size=inputs), **gates},
        seed,
    )


def cast(problem: Problem, dtype: Any) -> Problem:
    return replace(
        problem,
        **{
            name: tree_map(lambda array: array.astype(dtype), getattr(problem, name))
            for name in ("parameters", "x", "state", "gates")
        },
    )


def tree_map(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to the arrays of nested tuples, lists and dicts, one tree or several."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(tree_map(function, *parts) for parts in zip(*trees, strict=True))
    return None if first is None else function(*trees)


def leaves(tree: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    tree_map(found.append, tree)
    return found


def freeze(tree: Any) -> Any:
    """Read-only copies: an assignment to any of them raises."""

    def frozen(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flags.writeable = False
        return array

    return tree_map(frozen, tree)


def normal_like(rng: np.random.Generator, tree: Any) -> Any:
    return tree_map(lambda array: rng.standard_normal(array.shape).astype(array.dtype), tree)


def dot(a: Any, b: Any) -> float:
    return sum(float((x * y).sum()) for x, y in zip(leaves(a), leaves(b), strict=True))


def assert_close(actual: Any, expected: Any, dtype: Any = np.float64) -> None:
    """Equal structure, dtype and shape, and values within the tolerance of the dtype."""

    def compare(a: np.ndarray, b: np.ndarray) -> None:
        assert a.dtype == dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **TOLERANCE[dtype])

    assert len(leaves(actual)) == len(leaves(expected))
    tree_map(compare, actual, expected)


def directional_derivative(function: Callable[[Any], float], at: Any, direction: Any) -> float:
    """d/de function(at + e direction), by a central difference of fourth order."""

    def value(e: float) -> float:
        return function(tree_map(lambda a, d: a + e * d, at, direction))

    h = 1e-3
    return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)


def assert_gradient(function: Callable[[Any], float], at: Any, gradient: Any, seed: int) -> None:
    """One random projection of a hand-derived gradient against the difference."""
    direction = normal_like(np.random.default_rng(seed), at)
    direction = tree_map(lambda d: d / max(1, np.linalg.norm(d)), direction)
    difference = directional_derivative(function, at, direction)
    np.testing.assert_allclose(dot(gradient, direction), difference, rtol=1e-8, atol=1e-8)
