"""Builds the layers of a net from its description, a list of dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0gate._vocabulary import JOINS, RECURRENT, describe, sources
from l0gate.layout.stacked import join
from l0gate.reference._forward_only import BatchNorm, Conv1d, Join, Slice
from l0gate.reference._layers import Activation, Direction, Embedding, Layer, Linear
from l0gate.reference._recurrent import GRU, LSTM, RNN, Recurrent


def build(layers: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """Build the layers of a description to which `complete` has added the default values.

    A recurrent entry with `num_layers` N becomes N objects. Axes get their names here, those of
    `Net.forward`. Recurrent layers are counted from 0 through the whole net. The hidden neurons of
    layer k are hk; with two directions they are fk (forward) and bk (backward). If layer k does not
    read the output of another recurrent layer, its input features are xk (x for k = 0).
    """
    chain: list[Layer] = []
    outputs = [0]  # of the net's input and of every entry: its number in `Layer.sources`
    axes: list[tuple[str, ...]] = [()]  # of every output in `Layer.sources`; () if it has none
    count = 0  # recurrent layers so far
    reading = sources(layers)
    for index, (layer, sourced) in enumerate(zip(layers, reading, strict=True)):
        read = tuple(outputs[source] for source in sourced)
        where = describe(index, layer)
        for depth in range(layer.get("num_layers", 1)):
            own = axes[read[0]]
            if layer["type"] in RECURRENT:
                own = own or ("x" if count == 0 else f"x{count}",)
                made: Layer = _recurrent(layer, _directions(layer, depth, count), own)
                own = tuple(axis for end in made.directions for axis in end.axes)
                count += 1
            else:
                readers = [n for n, found in enumerate(reading) if index + 1 in found]
                made = _other(layer, own, [layers[n]["type"] for n in readers])
                if layer["type"] not in ("activation", "batch_norm"):
                    own = ()
            made.sources, made.where = read, where
            chain.append(made)
            axes.append(own)
            read = (len(chain),)
        outputs.append(len(chain))
    return tuple(chain)


def _other(layer: Mapping[str, Any], reads: tuple[str, ...], readers: Sequence[str]) -> Layer:
    """A layer that is not recurrent. `readers` are the types of the layers that read it."""
    kind = layer["type"]
    if kind == "embedding":
        return Embedding(
            layer["name"], multiplied=len(readers) == 1 and readers[0] in ("linear", *RECURRENT)
        )
    if kind == "linear":
        return Linear(layer["name"], layer["bias"], reads)
    if kind == "activation":
        return Activation(layer["function"], layer.get("slope"))
    if kind == "conv1d":
        options = (layer[key] for key in ("bias", "stride", "dilation", "groups", "padding"))
        return Conv1d(layer["name"], *options)
    if kind == "batch_norm":
        return BatchNorm(layer["name"], layer["epsilon"], layer["affine"])
    if kind == "slice":
        return Slice(layer["start"], layer["stop"])
    assert kind in JOINS
    return Join(kind, len(layer["inputs"]))


def _recurrent(
    layer: Mapping[str, Any], directions: tuple[Direction, ...], reads: tuple[str, ...]
) -> Recurrent:
    name, f = layer["name"], layer["activation"]
    if layer["type"] == "lstm":
        return LSTM(name, directions, reads, f, layer["recurrent_activation"])
    if layer["type"] == "gru":
        s = layer["recurrent_activation"]
        return GRU(name, directions, reads, layer["reset_after"], f, s)
    return RNN(name, directions, reads, f)


def _directions(layer: Mapping[str, Any], depth: int, count: int) -> tuple[Direction, ...]:
    """The one or two directions of layer `depth` of a recurrent stack.

    `count` is the number of recurrent layers before it in the net.
    """

    def direction(suffix: str, axis: str, reverse: bool) -> Direction:
        def name(kind: str) -> str:
            return join(layer["name"], f"{kind}_l{depth}{suffix}")

        return Direction(
            name("weight_ih"),
            name("weight_hh"),
            name("bias_ih"),
            name("bias_hh"),
            layer["bias"],
            (axis,),
            reverse,
        )

    if not layer["bidirectional"]:
        return (direction("", f"h{count}", reverse=False),)
    return (
        direction("", f"f{count}", reverse=False),
        direction("_reverse", f"b{count}", reverse=True),
    )
