"""What the reader knows about a value of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats._onnx.order import DIRECTIONS, FEATURES, Axes, Size, size_of
from l0gate.formats.layers import Layer, Linear, Recurrent

__all__ = [
    "Dims",
    "Moved",
    "Node",
    "Reversed",
    "Stream",
    "Unknown",
    "Value",
    "Zeros",
]


@dataclass(frozen=True, eq=False)
class Reversed:
    """A layer that runs from the last step to the first, until a Concat pairs it."""

    layer: Recurrent


@dataclass(frozen=True, eq=False)
class Stream:
    """The sequence after some layers. `source` is the input of the graph that it began with.

    `width` is the number of features, None if the file leaves it open. `last` says that only the
    last time step is left, `state` that this is also the last state of a layer. `sizes` has the
    sizes of the labels of its axes.
    """

    source: str
    axes: Axes
    width: int | None
    sizes: Mapping[str, int | None]
    layers: tuple[Layer | Reversed, ...] = ()
    last: bool = False
    state: bool = False
    tokens: bool = False

    @property
    def all_sizes(self) -> dict[str, int | None]:
        return {**self.sizes, FEATURES: self.width, DIRECTIONS: 2}

    @property
    def ends_in_features(self) -> bool:
        flat = [label for axis in self.axes for label in axis]
        return bool(self.axes) and self.axes[-1] == (FEATURES,) and DIRECTIONS not in flat

    def moved(self, axes: Axes) -> Stream:
        """The same with its axes elsewhere. Directions before features become features."""
        width = self.width
        if (DIRECTIONS, FEATURES) in axes:
            axes = tuple((FEATURES,) if a == (DIRECTIONS, FEATURES) else a for a in axes)
            width = None if width is None else 2 * width
        return replace(self, axes=axes, width=width)

    def then(self, layer: Layer | Reversed, width: int | None, **changes: Any) -> Stream:
        """The sequence after one more layer."""
        if len(self.layers) >= 1000:
            raise L0GateError("has more than 1,000 layers")
        return replace(
            self,
            layers=(*self.layers, layer),
            width=width,
            state=False,
            tokens=False,
            **changes,
        )

    def with_bias(self, bias: np.ndarray) -> Stream:
        """The sequence after the last layer, a linear one without a bias, got this one."""
        last = self.layers[-1]
        assert isinstance(last, Linear)
        return replace(self, layers=(*self.layers[:-1], replace(last, bias=bias)))

    def dims(self) -> Dims:
        return Dims(tuple(size_of(axis, self.all_sizes) for axis in self.axes))


@dataclass(frozen=True)
class Dims:
    """Sizes that the graph computes: a vector, or one number."""

    entries: tuple[Size, ...]
    scalar: bool = False


@dataclass(frozen=True)
class Zeros:
    """Zeros of any shape."""


@dataclass(frozen=True)
class Moved:
    """Numbers that were only moved: states that the caller gives, or that layers end in."""

    source: str
    computed: bool


@dataclass(frozen=True)
class Unknown:
    """A value that l0gate cannot express, and why: an error once the output depends on it."""

    why: str


Value: TypeAlias = "np.ndarray | Stream | Dims | Zeros | Moved | Unknown"


@dataclass(frozen=True, eq=False)
class Node:
    """A node of a graph: its operator, attributes, and the values that it reads (None: absent)."""

    operator: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    input_names: tuple[str, ...] = ()
    outputs: int = 1
    opset: int = 17
    verbatim: bool = False  # whether its name is the layer's
    notes: dict[str, int] = field(default_factory=dict)  # kept from node to node of a graph

    def input(self, place: int) -> Value | None:
        return self.inputs[place] if place < len(self.inputs) else None

    def numbers(self, place: int, attribute: str) -> list[int] | None:
        """Whole numbers that newer files have as an input and older ones as an attribute."""
        found = self.input(place)
        if isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.size <= 64:
            return [int(n) for n in found.ravel()]
        given = self.attributes.get(attribute)
        return given if found is None and isinstance(given, list) else None

    @property
    def described(self) -> str:
        return f"{self.operator[:40]}{f' {self.name[:60]!r}' if self.name else ''}"

    @property
    def scope(self) -> str:
        """The module that the node belongs to, by the names that torch's exporter gives."""
        clean = "".join(c if c.isprintable() else "_" for c in self.name)[:200]
        return clean if self.verbatim else ".".join(clean.strip("/").split("/")[:-1])
