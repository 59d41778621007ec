"""Every hypothesis strategy of the suite, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

axis_names = st.sampled_from(["x", "h0", "h1", "f", "b", "_y", "é"])


@st.composite
def dimension_texts(draw: st.DrawFn, depth: int = 2) -> str:
    """The text of one dimension, nested at most `depth` deep."""
    kind = draw(st.sampled_from(["_", "axis", "number", "sum"] if depth == 2 else ["axis", "sum"]))
    if kind == "_":
        return "_"
    if kind == "axis":
        return draw(axis_names)
    if kind == "number":
        return str(draw(st.integers(1, 9)))
    return f"({draw(sums(depth))})"


@st.composite
def sums(draw: st.DrawFn, depth: int) -> str:
    """Products joined by plus signs."""
    products = []
    for _ in range(draw(st.integers(1, 3))):
        core = draw(dimension_texts(depth - 1)) if depth > 0 else draw(axis_names)
        outer = draw(st.sampled_from(["", "2 ", "3 "]))
        inner = draw(st.sampled_from(["", " 2"]))
        products.append(draw(st.sampled_from([f"{outer}{core}{inner}", "5"])))
    return " + ".join(products)


@st.composite
def pattern_texts(draw: st.DrawFn) -> str:
    """A valid pattern, with or without an arrow."""
    sides = [
        " ".join(draw(st.lists(dimension_texts(), min_size=1, max_size=2)))
        for _ in range(draw(st.integers(1, 2)))
    ]
    return draw(st.sampled_from([" <- ", " -> "])).join(sides)


def log_alphas(size: int, low: float = -8.0, high: float = 5.0) -> st.SearchStrategy[np.ndarray]:
    """Bounded log_alpha of one axis, in float64."""
    values = st.floats(low, high, allow_subnormal=False, width=32)
    return st.lists(values, min_size=size, max_size=size).map(lambda v: np.array(v, float))


@st.composite
def chains(draw: st.DrawFn) -> dict[str, Any]:
    """Layers, sizes and seeds of a random chain with an LSTM or GRU in it."""
    cell = draw(st.sampled_from(["lstm", "gru"]))
    layer: dict[str, Any] = {
        "type": cell,
        "name": "rnn",
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
    }
    if cell == "gru":
        layer["reset_after"] = draw(st.booleans())
    layers: list[dict[str, Any]] = [layer]
    if draw(st.booleans()):
        layers.insert(0, {"type": "embedding", "name": "embedding"})
    if draw(st.booleans()):
        layers.append({"type": "linear", "name": "decoder", "bias": draw(st.booleans())})
    return {
        "layers": layers,
        "batch_first": draw(st.booleans()),
        "input_size": draw(st.integers(1, 5)),
        "hidden_size": draw(st.integers(1, 6)),
        "length": draw(st.integers(1, 5)),
        "batch": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "gates": draw(st.sampled_from(["random", "soft", "open", "closed"])),
    }
