"""From the description of a net, a list of dicts, to its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0gate.layout.stacked import join
from l0gate.reference._layers import Activation, Direction, Embedding, Layer, Linear
from l0gate.reference._recurrent import GRU, LSTM


def build(layers: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """The layers of a completed description: one object per layer of a recurrent stack.

    Axes are named as in `Net.forward`: x or xk for what recurrent layer k reads where it follows no
    other, hk for its hidden neurons, or fk and bk for its two directions.
    """
    chain: list[Layer] = []
    reads: tuple[str, ...] = ()  # the gated axes of the features so far; () where there are none
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
    """The directions of layer `depth` in its stack, which is recurrent layer `count` of the net."""

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
