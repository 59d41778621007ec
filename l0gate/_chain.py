"""Chains of embedding, recurrent, linear and activation layers: their layout and their states.

A chain is a list of plain dicts, so that it travels in a file's manifest; `l0gate.reference.Net`
runs it, and every backend that offers "nets" trains it:

    {"type": "embedding", "name": "embedding"}
    {"type": "lstm", "name": "rnn", "num_layers": 2, "bidirectional": False, "bias": True}
    {"type": "gru", "name": "rnn", "num_layers": 1, ..., "reset_after": True}
    {"type": "linear", "name": "decoder", "bias": True}
    {"type": "activation", "function": "tanh"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l0gate._errors import L0GateError, check
from l0gate._layout import Layout

GATES = {"lstm": 4, "gru": 3}
_OPTIONS: dict[str, dict[str, Any]] = {
    "embedding": {},
    "lstm": {"num_layers": 1, "bidirectional": False, "bias": True},
    "gru": {"num_layers": 1, "bidirectional": False, "bias": True, "reset_after": True},
    "linear": {"bias": True},
    "activation": {"function": None},
}


_SWITCHES = ("bidirectional", "bias", "reset_after")
_MOST_LAYERS = 1000  # a damaged file must not fill the memory


def complete(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The layers with every option written out; an unknown type or option raises."""
    check(
        isinstance(layers, (list, tuple)) and len(layers) > 0,
        f"`layers` is {layers!r}; it must be a list of at least one layer",
    )
    completed: list[dict[str, Any]] = []
    for layer in layers:
        kind = layer.get("type") if isinstance(layer, Mapping) else None
        if not isinstance(kind, str) or kind not in _OPTIONS:
            raise L0GateError(
                f"`layers` holds {layer!r}; the type must be one of {', '.join(_OPTIONS)}"
            )
        known = _OPTIONS[kind] | ({} if kind == "activation" else {"name": None})
        unknown = set(layer) - set(known) - {"type"}
        check(
            not unknown,
            f"`layers` holds {layer!r} with {sorted(unknown)}; {kind} takes {sorted(known)}",
        )
        full = {**known, **layer}
        count = full.get("num_layers", 1)
        check(
            isinstance(full.get("name", ""), str)
            and isinstance(count, int)
            and 1 <= count <= _MOST_LAYERS
            and all(isinstance(full.get(o, True), bool) for o in _SWITCHES),
            f"`layers` holds {layer!r}; it must have a name, `num_layers` from 1 to"
            f" {_MOST_LAYERS}, and True or False for {', '.join(_SWITCHES)}",
        )
        names = [other.get("name") for other in completed]
        check(
            kind == "activation" or full["name"] not in names,
            f"`layers` has two layers of the name {full.get('name')!r}",
        )
        completed.append(full)
    return completed


def parameter_name(layer: Mapping[str, Any], parameter: str) -> str:
    """As in torch: no dot where the layer has no name of its own."""
    return f"{layer['name']}.{parameter}" if layer["name"] else parameter


@dataclass(frozen=True)
class Chain:
    """What follows from the layers of a chain.

    `state_axes` names the axis of every recurrent layer and direction, in the order of the states
    (l0, l0_reverse, l1, ...). `groups` are the axes of each recurrent module. `frozen` are axes
    whose neurons the caller sees. `input_axis` is the axis of the chain's own input features, if
    those are gated.

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
        builder = _Builder(layers)
        for name, value in (
            ("layers", layers),
            ("layout", Layout(builder.patterns, uses=builder.uses)),
            ("state_axes", tuple(a for group in builder.groups for a in group)),
            ("groups", tuple(builder.groups)),
            ("frozen", builder.frozen),
            ("input_axis", builder.input_axis),
        ):
            object.__setattr__(self, name, value)


class _Builder:
    """Walks the chain, carrying the pattern of the features that the next layer reads."""

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
        weight = parameter_name(layer, "weight")
        if layer["type"] == "embedding":
            check(features is None, f"embedding {layer['name']!r} must be the first layer")
            self.patterns[weight] = f"_ -> {out}"
            self.uses[weight] = 0
            return out
        self.patterns[weight] = f"{out} <- {features or '_'}"
        if layer["bias"]:
            self.patterns[parameter_name(layer, "bias")] = out
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
                    name = parameter_name(layer, f"{stem}_l{i}{suffix}")
                    self.patterns[name] = f"({blocks} {axis}){reads}"
                for stem in ("bias_ih", "bias_hh") if layer["bias"] else ():
                    name = parameter_name(layer, f"{stem}_l{i}{suffix}")
                    self.patterns[name] = f"({blocks} {axis})"
            features = f"({' + '.join(axes)})" if two else axes[0]
            group += axes
            self.depth += 1
        self.groups.append(tuple(group))
        return features, axes
