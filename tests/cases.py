"""Layouts of real architectures, and arrays that fit them, for several test files."""

from __future__ import annotations

import numpy as np

from l0gate import Layout
from l0gate.layout.fold import positions


def arrays_for(layout: Layout, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays of the shapes that a layout has at given axis sizes (`_` is 3)."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, pattern in layout.patterns.items():
        slices = pattern if isinstance(pattern, tuple) else (pattern,)
        shapes = [
            tuple(
                len(positions(d, sizes, {a: np.arange(n) for a, n in sizes.items()}))
                if d.blocks
                else 3
                for d in p.dimensions
            )
            for p in slices
        ]
        values = [rng.normal(size=shape) for shape in shapes]
        arrays[name] = np.stack(values) if isinstance(pattern, tuple) else values[0]
    return arrays


DESIGN = Layout(
    {
        "embedding.weight": "_ -> x",
        "rnn.weight_ih_l0": "(4 h0) <- x",
        "rnn.weight_hh_l0": "(4 h0) <- h0",
        "rnn.bias_ih_l0": "(4 h0)",
        "decoder.weight": "_ <- h0",
    }
)
CASES = {
    "design": DESIGN,
    "bidirectional": Layout(
        {"f.u": "(4 f) <- f", "b.u": "(4 b) <- b", "w": "(4 f) <- x", "out": "_ <- (f + b)"}
    ),
    "tensorflow": Layout({"kernel": "(x + h) -> (4 h)", "bias": "(4 h)", "out": "h -> _"}),
    "onnx": Layout({"W": ["(4 f) <- x", "(4 b) <- x"], "R": ["(4 f) <- f", "(4 b) <- b"]}),
    "conv": Layout({"conv": "c <- _ _", "flat": "_ <- (c 2)", "mixed": "_ <- (c + 5 + 2 c)"}),
    "tied": Layout({"table": "_ <- e", "rnn": "(3 h) <- e", "u": "(3 h) <- h", "out": "e <- h"}),
}
SIZES = {"x": 5, "h0": 3, "f": 2, "b": 2, "h": 4, "c": 3, "e": 3}
