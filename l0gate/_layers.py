"""Chains of embedding, recurrent, linear and activation layers: their description.

A chain is a list of plain dicts, so that it travels in a file's manifest; `l0gate.reference.Net`
runs it, and every backend that offers "nets" trains it:

    {"type": "embedding", "name": "embedding"}                         only as the first layer
    {"type": "lstm", "name": "rnn", "num_layers": 2, "bidirectional": False, "bias": True}
    {"type": "gru", "name": "rnn", "num_layers": 1, ..., "reset_after": True}
    {"type": "linear", "name": "decoder", "bias": True}
    {"type": "activation", "function": "tanh"}                         or "sigmoid", "relu"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0gate._errors import check

ACTIVATIONS = ("tanh", "sigmoid", "relu")
GATES = {"lstm": 4, "gru": 3}
_MOST_LAYERS = 1000  # a damaged file must not fill the memory

_RECURRENT = {"num_layers": 1, "bidirectional": False, "bias": True}
# type -> (the key that must be given, further keys with their defaults)
_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedding": ("name", {}),
    "lstm": ("name", _RECURRENT),
    "gru": ("name", {**_RECURRENT, "reset_after": True}),
    "linear": ("name", {"bias": True}),
    "activation": ("function", {}),
}


def complete(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The description of a net with every key written out, after checking it."""
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
            valid = isinstance(value, int) and not isinstance(value, bool)
            check(
                valid and 1 <= value <= _MOST_LAYERS,
                f"{where} has num_layers {value!r}; it must be an int from 1 to {_MOST_LAYERS}",
            )
        else:
            check(isinstance(value, bool), f"{where} has {key} {value!r}; it must be a bool")
    return full


def join(name: str, parameter: str) -> str:
    """The name of a layer's parameter; as in torch, without a dot where the layer has no name."""
    return f"{name}.{parameter}" if name else parameter


class ChainPatterns:
    """Walks a completed chain, carrying the pattern of the features that the next layer reads."""

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        self.patterns: dict[str, str | Sequence[str]] = {}
        self.uses: dict[str, float] = {}
        self.groups: list[tuple[str, ...]] = []
        self.input_axis: str | None = None
        self.depth = 0  # recurrent layers so far, counted through the whole chain
        features: str | None = None  # None: the chain's own input
        last: tuple[str, ...] = ()  # axes of the last recurrent layer while nothing has read it
        for i, layer in enumerate(layers):
            following = next((x["type"] for x in layers[i + 1 :] if x["type"] != "activation"), "")
            if layer["type"] in GATES:
                features, last = self._recurrent(layer, features)
            elif layer["type"] != "activation":
                written = self._input_name() if following in GATES else "_"
                features = self._feed_forward(layer, features, written)
                last = ()
        self.frozen = last

    def _input_name(self) -> str:
        return f"x{self.depth}" if self.depth else "x"

    def _feed_forward(self, layer: Mapping[str, Any], features: str | None, out: str) -> str:
        weight = join(layer["name"], "weight")
        if layer["type"] == "embedding":
            self.patterns[weight] = f"_ -> {out}"
            self.uses[weight] = 0
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
        blocks = GATES[layer["type"]]
        group: list[str] = []
        axes: tuple[str, ...] = ()
        for i in range(layer["num_layers"]):
            two = layer["bidirectional"]
            axes = (f"f{self.depth}", f"b{self.depth}") if two else (f"h{self.depth}",)
            for axis, suffix in zip(axes, ("", "_reverse"), strict=False):
                for stem, reads in (("weight_ih", f" <- {features}"), ("weight_hh", f" <- {axis}")):
                    name = join(layer["name"], f"{stem}_l{i}{suffix}")
                    self.patterns[name] = f"({blocks} {axis}){reads}"
                for stem in ("bias_ih", "bias_hh") if layer["bias"] else ():
                    name = join(layer["name"], f"{stem}_l{i}{suffix}")
                    self.patterns[name] = f"({blocks} {axis})"
            features = f"({' + '.join(axes)})" if two else axes[0]
            group += axes
            self.depth += 1
        self.groups.append(tuple(group))
        return features, axes
