"""Nets described by a list of layers: their layout and the axes that follow from it.

The layers are plain dicts, which can be saved as JSON: see `_vocabulary.py`. `l0gate.reference.Net`
runs them, and every backend that offers "nets" trains those it can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l0gate._vocabulary import JOINS, RECURRENT, complete, sources
from l0gate.layout.layout import Layout
from l0gate.layout.stacked import Patterns, features_of, join, recurrent_patterns


@dataclass(frozen=True)
class Chain:
    """A list of layers, with the layout and the axes that follow from it.

    `state_axes` names the axis of every recurrent layer and direction, in the order of the states
    (l0, l0_reverse, l1, ...). `groups` are the axes of each recurrent module. `frozen` are axes
    whose neurons something other than a matrix reads: the caller, a sum or product of two outputs,
    softmax. `input_axis` is the axis of the input features, if a recurrent layer reads them; else
    None.

    >>> chain = Chain([{"type": "embedding", "name": "e"}, {"type": "gru", "name": "rnn"},
    ...                {"type": "linear", "name": "out"}])
    >>> chain.layout.axes, chain.state_axes, chain.frozen
    (('x', 'h0'), ('h0',), ())
    """

    layers: Sequence[Mapping[str, Any]]
    batch_first: bool = False
    layout: Layout = field(init=False)
    state_axes: tuple[str, ...] = field(init=False)
    groups: tuple[tuple[str, ...], ...] = field(init=False)
    frozen: tuple[str, ...] = field(init=False)
    input_axis: str | None = field(init=False)

    def __post_init__(self) -> None:
        layers = complete(self.layers)
        walk = _Walk(layers)
        for name, value in (
            ("layers", layers),
            ("layout", Layout(walk.patterns, uses=walk.uses)),
            ("state_axes", tuple(a for group in walk.groups for a in group)),
            ("groups", tuple(walk.groups)),
            ("frozen", tuple(walk.frozen)),
            ("input_axis", walk.input_axis),
        ):
            object.__setattr__(self, name, value)


# The axes of a layer's features in order; None where they are no axis, so that nothing is pruned.
_Features = tuple[str, ...] | None
# Layers that treat every feature by itself, so that features keep their axes.
_ELEMENTWISE = ("activation", "batch_norm")


class _Walk:
    """Derives patterns, uses and axes, layer by layer, from a list that `complete` returned."""

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        self.patterns: Patterns = {}
        self.uses: dict[str, float] = {}
        self.groups: list[tuple[str, ...]] = []
        self.frozen: dict[str, None] = {}  # a set in order
        self.input_axis: str | None = None
        self.depth = 0  # recurrent layers so far, counted through the whole net
        self.layers, self.reads = layers, sources(layers)
        self.outputs: list[_Features] = [None]  # of the input, then of every layer
        if self._readers(0, RECURRENT):
            self.input_axis = "x"
        elif self._readers(0, ("concat",)):
            self.input_axis = "input"
        if self.input_axis is not None:
            self.outputs = [(self.input_axis,)]
        for index, layer in enumerate(layers):
            self.outputs.append(self._features(index, layer))
        self._freeze(self.outputs[-1])

    def _features(self, index: int, layer: Mapping[str, Any]) -> _Features:
        """The axes of what a layer returns. Adds the patterns of its parameters."""
        kind = layer["type"]
        read = [self.outputs[source] for source in self.reads[index]]
        if kind in RECURRENT:
            return self._recurrent(layer, read[0])
        if kind == "concat":
            parts = [axes for axes in read if axes is not None]
            if len(parts) == len(read):
                return tuple(axis for axes in parts for axis in axes)
        if kind in (*JOINS, "slice") or layer.get("function") == "softmax":
            for axes in read:
                self._freeze(axes)
            return None if kind != "activation" else read[0]
        if kind == "batch_norm":
            names = ["weight", "bias"] * layer["affine"] + ["running_mean", "running_var"]
            pattern = "_" if read[0] is None else features_of(read[0])
            self.patterns |= {join(layer["name"], name): pattern for name in names}
        if kind in _ELEMENTWISE:
            return read[0]
        return self._feed_forward(layer, read[0], self._written(index))

    def _readers(self, output: int, kinds: Sequence[str]) -> list[int]:
        """The layers of these kinds that read an output, maybe through elementwise layers."""
        found = []
        for index, layer in enumerate(self.layers):
            if output in self.reads[index]:
                if layer["type"] in kinds:
                    found.append(index)
                elif layer["type"] in _ELEMENTWISE:
                    found += self._readers(index + 1, kinds)
        return sorted(found)

    def _written(self, index: int) -> _Features:
        """The axis that a layer with a matrix writes, if a recurrent layer or a join reads it."""
        recurrent = self._readers(index + 1, RECURRENT)
        if recurrent:
            before = self.layers[: recurrent[0]]
            depth = sum(layer["num_layers"] for layer in before if layer["type"] in RECURRENT)
            name = f"x{depth}" if depth else "x"
            used = self.input_axis, *(axes for axes in self.outputs if axes is not None)
            return (name if name not in used and (name,) not in used else f"n{index}",)
        return (f"n{index}",) if self._readers(index + 1, ("concat",)) else None

    def _feed_forward(
        self, layer: Mapping[str, Any], read: _Features, written: _Features
    ) -> _Features:
        weight = join(layer["name"], "weight")
        out = "_" if written is None else features_of(written)
        features = "_" if read is None else features_of(read)
        if layer["type"] == "embedding":
            self.patterns[weight] = f"_ -> {out}"
            self.uses[weight] = 0  # looked up, not multiplied
            return written
        if layer["type"] == "conv1d":
            if layer["groups"] > 1:  # every group has its own features, in equal numbers
                self._freeze(read)
                self._freeze(written)
                features = "_"
            features = f"{features} _"
        self.patterns[weight] = f"{out} <- {features}"
        if layer["bias"]:
            self.patterns[join(layer["name"], "bias")] = out
        return written

    def _recurrent(self, layer: Mapping[str, Any], read: _Features) -> _Features:
        patterns, layers = recurrent_patterns(
            "rnn_tanh" if layer["type"] == "rnn" else layer["type"],
            layer["name"],
            layer["num_layers"],
            bidirectional=layer["bidirectional"],
            bias=layer["bias"],
            features="_" if read is None else features_of(read),
            depth=self.depth,
        )
        self.patterns |= patterns
        self.groups.append(tuple(axis for axes in layers for axis in axes))
        self.depth += len(layers)
        return layers[-1]

    def _freeze(self, axes: _Features) -> None:
        self.frozen |= dict.fromkeys(axes or ())
