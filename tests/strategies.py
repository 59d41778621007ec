"""Every hypothesis strategy of the suite, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from cases import arrays_for
from hypothesis import settings
from hypothesis import strategies as st

from l0gate import Layout
from l0gate.reference import gru_scan, lstm_scan


def examples(times: int) -> settings:
    """So many times the examples of the profile, for properties that are cheap to try."""
    return settings(max_examples=times * settings.default.max_examples)


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
        "num_layers": draw(st.integers(1, 4)),
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


# Layouts of any shape ---------------------------------------------------------------------------

_DIMENSIONS = ("_", "{a}", "(3 {a})", "({a} 2)", "({a} + {b})", "({a} + 2)", "(2 ({a} + {b}) 2)")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, dict[str, int]]:
    """A layout over up to three axes, with their sizes: 6 neurons in all at most.

    Every axis also has a reader of its own, from which its size can be solved.
    """
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]

    def side(most: int) -> str:
        texts = st.sampled_from(_DIMENSIONS)
        axes = st.sampled_from(names)
        return " ".join(
            draw(texts).format(a=draw(axes), b=draw(axes))
            for _ in range(draw(st.integers(1, most)))
        )

    patterns: dict[str, Any] = {}
    for i in range(draw(st.integers(1, 3))):
        form = draw(st.sampled_from(["{} <- {}", "{} -> {}", "{}", "slices"]))
        patterns[f"p{i}"] = (
            [f"_ <- {side(1)}"] * 2 if form == "slices" else form.format(side(1), side(2))
        )
    patterns |= {f"reader.{name}": f"_ <- {name}" for name in names}
    layout = Layout(patterns, uses={"p0": 0, "reader.a": draw(st.sampled_from([0.5, 2]))})
    return layout, {axis: draw(st.integers(1, 2)) for axis in layout.axes}


# Architectures that are no chain ----------------------------------------------------------------

CELLS = {"lstm": 4, "gru": 3, "gru_reset_before": 3}
States = list[tuple[str, np.ndarray]]  # (axis, array) in the order of the scans


@dataclass(frozen=True)
class Scan:
    """One recurrent layer in one direction."""

    name: str
    axis: str
    cell: str
    reverse: bool = False

    def patterns(self, read: str) -> dict[str, str]:
        wide = f"({CELLS[self.cell]} {self.axis})"
        patterns = {"w": f"{wide} <- {read}", "u": f"{wide} <- {self.axis}", "b": wide}
        if self.cell != "lstm":
            patterns["n"] = self.axis
        return {f"{self.name}.{key}": text for key, text in patterns.items()}


@dataclass(frozen=True)
class Architecture:
    """A layout, and the model that it describes: `apply` is plain NumPy in any dtype.

    `steps` are ("rnn" | "residual" | "skip" | "twice" | "product", scans). The model reads raw
    features, encoded ones, or tokens; all have 3 positions. `readers` linear layers read the
    result, the second one summed over time; with none, the caller sees it.
    """

    start: str
    steps: tuple[tuple[str, tuple[Scan, ...]], ...]
    readers: int
    sizes: Mapping[str, int]
    seed: int

    @cached_property
    def described(self) -> tuple[Layout, tuple[str, ...]]:
        """The layout, and the axes that the caller sees."""
        patterns: dict[str, str] = {}
        if self.start == "encoder":
            patterns |= {"encoder.w": "x <- _", "encoder.b": "x"}
        if self.start == "table":
            patterns["table"] = "_ -> x"
        axes: tuple[str, ...] = ("3",) if self.start == "raw" else ("x",)
        for kind, scans in self.steps:
            for scan in scans:
                patterns |= scan.patterns(_side(axes))
            written = tuple(scan.axis for scan in scans)
            if kind in ("rnn", "skip", "twice"):
                axes = written + {"rnn": (), "skip": axes, "twice": written}[kind]
        for i in range(self.readers):
            patterns |= {f"out{i}.w": f"_ <- {_side(axes)}", f"out{i}.b": "_"}
        return Layout(patterns), () if self.readers else tuple(
            a for a in dict.fromkeys(axes) if a != "3"
        )

    @property
    def layout(self) -> Layout:
        return self.described[0]

    @property
    def freeze(self) -> tuple[str, ...]:
        return self.described[1]

    @property
    def causal(self) -> bool:
        """Whether chunks that carry the state give what the whole sequence gives."""
        scans = [scan for _, scans in self.steps for scan in scans]
        forward = not any(scan.reverse for scan in scans)
        return (
            forward and self.readers < 2 and not {"twice", "product"} & {k for k, _ in self.steps}
        )

    def parameters(self, dtype: Any = np.float64) -> dict[str, np.ndarray]:
        arrays = arrays_for(self.layout, dict(self.sizes), self.seed)
        return {name: (0.7 * array).astype(dtype) for name, array in arrays.items()}

    def input(self, steps: int, batch: int, dtype: Any = np.float64) -> np.ndarray:
        rng = np.random.default_rng(self.seed + 1)
        if self.start == "table":
            return rng.integers(0, 3, (steps, batch))
        return rng.normal(size=(steps, batch, 3)).astype(dtype)

    def initial(self, batch: int, dtype: Any = np.float64) -> States:
        """Random states for every scan, in the order in which `apply` runs them."""
        rng = np.random.default_rng(self.seed + 2)
        states: States = []
        for kind, scans in self.steps:
            for scan in scans * (2 if kind == "twice" else 1):
                for _ in range(2 if scan.cell == "lstm" else 1):
                    shape = batch, self.sizes[scan.axis]
                    states.append((scan.axis, rng.normal(size=shape).astype(dtype)))
        return states

    def apply(
        self,
        p: Mapping[str, np.ndarray],
        x: np.ndarray,
        initial: States | None = None,
        lengths: Any = None,
    ) -> tuple[list[np.ndarray], States]:
        """The outputs and the last states; the first ones are 0 by default."""
        given, last = iter(initial or ()), []

        def run(scan: Scan, h: np.ndarray) -> np.ndarray:
            gx = h @ p[f"{scan.name}.w"].T + p[f"{scan.name}.b"]
            u, where = p[f"{scan.name}.u"], {"lengths": lengths, "reverse": scan.reverse}
            zero = np.zeros((gx.shape[1], u.shape[1]), gx.dtype)
            start = [next(given, ("", zero))[1] for _ in range(2 if scan.cell == "lstm" else 1)]
            if scan.cell == "lstm":
                y, *state, _ = lstm_scan(gx, u, *start, **where)
            else:
                bias, after = p[f"{scan.name}.n"], scan.cell == "gru"
                y, *state, _ = gru_scan(gx, u, bias, *start, after, **where)
            last.extend((scan.axis, part) for part in state)
            return y

        h = x
        if self.start == "encoder":
            h = x @ p["encoder.w"].T + p["encoder.b"]
        if self.start == "table":
            h = p["table"][x]
        for kind, scans in self.steps:
            ys = [run(scan, h) for scan in scans]
            if kind == "rnn":
                h = np.concatenate(ys, axis=2)
            elif kind == "residual":
                h = h + ys[0]
            elif kind == "skip":
                h = np.concatenate([*ys, h], axis=2)
            elif kind == "twice":
                h = np.concatenate([*ys, *(run(scan, h[::-1]) for scan in scans)], axis=2)
            else:  # a product of two arrays on one axis
                h = h * np.tanh(h[::-1])
        if not self.readers:
            return [h], last
        read = [h, h.sum(axis=0)][: self.readers]
        return [z @ p[f"out{i}.w"].T + p[f"out{i}.b"] for i, z in enumerate(read)], last


def _side(axes: tuple[str, ...]) -> str:
    return axes[0] if len(axes) == 1 else f"({' + '.join(axes)})"


@st.composite
def architectures(draw: st.DrawFn, causal: bool = False) -> Architecture:
    """1 to 4 recurrent layers: stacked, bidirectional, residual, skipped, or used twice."""
    start = draw(st.sampled_from(["encoder", "table", "raw"]))
    single = "" if start == "raw" else "x"  # the axis of the features, where it is one
    steps: list[tuple[str, tuple[Scan, ...]]] = []
    for i in range(draw(st.integers(1, 4))):
        kinds = ["rnn", "skip"] + ["residual"] * 2 * bool(single) + ["twice"] * (not causal)
        kind, cell = draw(st.sampled_from(kinds)), draw(st.sampled_from(sorted(CELLS)))
        if kind == "residual":  # a sum makes two axes one
            scans: tuple[Scan, ...] = (Scan(f"l{i}", single, cell),)
        elif not causal and draw(st.booleans()):
            scans = Scan(f"l{i}.f", f"f{i}", cell), Scan(f"l{i}.b", f"b{i}", cell, reverse=True)
        else:
            scans = (Scan(f"l{i}", f"h{i}", cell),)
        steps.append((kind, scans))
        if kind != "residual":
            single = scans[0].axis if kind == "rnn" and len(scans) == 1 else ""
        if not causal and draw(st.integers(0, 3)) == 0:
            steps.append(("product", ()))
    readers = draw(st.integers(0, 1 if causal else 2))
    axes = {scan.axis for _, scans in steps for scan in scans}
    axes |= set() if start == "raw" else {"x"}
    sizes = {axis: draw(st.integers(1, 4)) for axis in sorted(axes)}
    return Architecture(start, tuple(steps), readers, sizes, draw(st.integers(0, 2**32 - 4)))


def gates_of(kind: str, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """log_alpha of every axis: "random", all "soft", all "open", or all "closed"."""
    low, high = {"random": (-6, 4), "soft": (-2, 2), "open": (2.5, 5), "closed": (-8, -3)}[kind]
    rng = np.random.default_rng(seed)
    return {axis: rng.uniform(low, high, size) for axis, size in sizes.items()}


gate_kinds = st.sampled_from(["random", "soft", "open", "closed"])
