"""Builds the layers of a net from its description, a list of dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0gate.layout.stacked import join
from l0gate.reference._layers import Activation, Direction, Embedding, Layer, Linear
from l0gate.reference._recurrent import GRU, LSTM


def build(layers: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """Build the layers of a description to which `complete` has added the default values.

    An LSTM or GRU entry with `num_layers` N becomes N objects. Axes get their names here, those of
    `Net.forward`. Recurrent layers are counted from 0 through the whole net. The hidden neurons of
    layer k are hk; with two directions they are fk (forward) and bk (backward). If layer k does not
    read the output of another recurrent layer, its input features are xk (x for k = 0).
    """
    chain: list[Layer] = []
    reads: tuple[str, ...] = ()  # the axes of the current features; () if they have none
    count = 0  # recurrent layers so far
    following = [layer["type"] for layer in layers[1:]] + ["activation"]
    for layer in layers:
        if layer["type"] == "embedding":
            chain.append(Embedding(layer["name"], multiplied=following[0] != "activation"))
        elif layer["type"] == "linear":
            chain.append(Linear(layer["name"], layer["bias"], reads))
            reads = ()
        elif layer["type"] == "activation":
            chain.append(Activation(layer["function"]))
        else:
            for depth in range(layer["num_layers"]):
                reads = reads or ("x" if count == 0 else f"x{count}",)
                directions = _directions(layer, depth, count)
                chain.append(
                    LSTM(layer["name"], directions, reads)
                    if layer["type"] == "lstm"
                    else GRU(layer["name"], directions, reads, layer["reset_after"])
                )
                reads = tuple(axis for direction in directions for axis in direction.axes)
                count += 1
    return tuple(chain)


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
