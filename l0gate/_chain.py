"""Chains of embedding, recurrent, linear and activation layers: description, layout and axes.

A chain is described by a list of plain dicts, which can be saved as JSON. `l0gate.reference.Net`
runs it, and every backend that offers "nets" trains it:

    {"type": "embedding", "name": "embedding"}                         only as the first layer
    {"type": "lstm", "name": "rnn", "num_layers": 2, "bidirectional": False, "bias": True}
    {"type": "gru", "name": "rnn", "num_layers": 1, ..., "reset_after": True}
    {"type": "linear", "name": "decoder", "bias": True}
    {"type": "activation", "function": "tanh"}                         or "sigmoid", "relu"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l0gate._errors import check
from l0gate.layout.layout import Layout
from l0gate.layout.stacked import (
    Patterns,
    check_num_layers,
    features_of,
    join,
    recurrent_patterns,
)

ACTIVATIONS = ("tanh", "sigmoid", "relu")
RECURRENT = ("lstm", "gru")

_DEFAULTS = {"num_layers": 1, "bidirectional": False, "bias": True}
# type -> (the key that must be given, further keys with their defaults)
_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedding": ("name", {}),
    "lstm": ("name", _DEFAULTS),
    "gru": ("name", {**_DEFAULTS, "reset_after": True}),
    "linear": ("name", {"bias": True}),
    "activation": ("function", {}),
}


@dataclass(frozen=True)
class Chain:
    """A chain of layers, with the layout and the axes that follow from them.

    `state_axes` names the axis of every recurrent layer and direction, in the order of the states
    (l0, l0_reverse, l1, ...). `groups` are the axes of each recurrent module. `frozen` are the axes
    of the chain's output, if it ends in a recurrent layer. `input_axis` is the axis of the input
    features, if a recurrent layer reads them; else None.

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
            ("frozen", walk.frozen),
            ("input_axis", walk.input_axis),
        ):
            object.__setattr__(self, name, value)


def complete(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Check the layers, and return them with a value for every key."""
    check(
        isinstance(layers, (list, tuple)) and len(layers) > 0,
        f"`layers` is {layers!r}; it must be a list of at least one layer",
    )
    completed = [_complete(f"`layers[{index}]`", layer) for index, layer in enumerate(layers)]
    for index, layer in enumerate(completed):
        check(
            index == 0 or layer["type"] != "embedding",
            f"`layers[{index}]` is an embedding; only the first layer can be one",
        )
    names = [layer["name"] for layer in completed if "name" in layer]
    repeated = sorted({name for name in names if names.count(name) > 1})
    check(not repeated, f"`layers` use the names {repeated} more than once; names must differ")
    return completed


def _complete(where: str, layer: Mapping[str, Any]) -> dict[str, Any]:
    check(isinstance(layer, Mapping), f"{where} is {layer!r}; it must be a dict with a `type`")
    kind = layer.get("type")
    check(
        isinstance(kind, str) and kind in _KEYS,
        f"{where} has type {kind!r}; known types are {', '.join(_KEYS)}",
    )
    required, defaults = _KEYS[str(kind)]
    check(required in layer, f"{where} of type {kind!r} lacks the key `{required}`")
    unknown = sorted(set(layer) - {"type", required, *defaults}, key=str)
    allowed = ", ".join((required, *defaults))
    check(not unknown, f"{where} of type {kind!r} has unknown keys {unknown}; allowed: {allowed}")
    full = {"type": kind, required: layer[required], **defaults, **layer}
    if required == "function":
        allowed = ", ".join(ACTIVATIONS)
        found = full["function"]
        check(found in ACTIVATIONS, f"{where} has function {found!r}; allowed: {allowed}")
    else:
        check(isinstance(full["name"], str), f"{where} has name {full['name']!r}; expected a str")
    for key in defaults:
        value = full[key]
        if key == "num_layers":
            check_num_layers(f"{where} has num_layers", value)
        else:
            check(isinstance(value, bool), f"{where} has {key} {value!r}; it must be a bool")
    return full


class _Walk:
    """Derives patterns, uses and axes, layer by layer, from a chain that `complete` returned."""

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        self.patterns: Patterns = {}
        self.uses: dict[str, float] = {}
        self.groups: list[tuple[str, ...]] = []
        self.input_axis: str | None = None
        self.depth = 0  # recurrent layers so far, counted through the whole chain
        features: str | None = None  # pattern that the next layer reads; None: the chain's input
        last: tuple[str, ...] = ()  # axes of the last recurrent layer, until another layer reads it
        for i, layer in enumerate(layers):
            following = next((x["type"] for x in layers[i + 1 :] if x["type"] != "activation"), "")
            if layer["type"] in RECURRENT:
                features, last = self._recurrent(layer, features)
            elif layer["type"] != "activation":
                written = self._input_name() if following in RECURRENT else "_"
                features = self._feed_forward(layer, features, written)
                last = ()
        self.frozen = last

    def _input_name(self) -> str:
        return f"x{self.depth}" if self.depth else "x"

    def _feed_forward(self, layer: Mapping[str, Any], features: str | None, out: str) -> str:
        weight = join(layer["name"], "weight")
        if layer["type"] == "embedding":
            self.patterns[weight] = f"_ -> {out}"
            self.uses[weight] = 0  # looked up, not multiplied
            return out
        self.patterns[weight] = f"{out} <- {features or '_'}"
        if layer["bias"]:
            self.patterns[join(layer["name"], "bias")] = out
        return out

    def _recurrent(
        self, layer: Mapping[str, Any], features: str | None
    ) -> tuple[str, tuple[str, ...]]:
        if features is None:
            features = self.input_axis = self._input_name()
        patterns, layers = recurrent_patterns(
            layer["type"],
            layer["name"],
            layer["num_layers"],
            bidirectional=layer["bidirectional"],
            bias=layer["bias"],
            features=features,
            depth=self.depth,
        )
        self.patterns |= patterns
        self.groups.append(tuple(axis for axes in layers for axis in axes))
        self.depth += len(layers)
        return features_of(layers[-1]), layers[-1]
