"""Closed neurons added to recurrent layers, for programs that take some hidden sizes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats.layers import (
    BLOCKS,
    Array,
    Direction,
    Layer,
    Linear,
    Recurrent,
    recurrent_layers,
)

__all__ = ["padded"]

_ZERO_AT_ZERO = (
    "tanh",
    "relu",
    "elu",
    "leaky_relu",
    "softsign",
    "linear",
    "hard_tanh",
    "relu6",
    "swish",
    "gelu",
)


def padded(layers: Sequence[Layer], sizes: Sequence[int]) -> list[Layer]:
    """The same net with `sizes` neurons in its recurrent layers. The outputs do not change.

    An added neuron has no weights: its state stays 0, and nobody reads it. Raises `L0GateError`
    for a size below the layer's, a layer of two directions, and an activation that is not 0 at 0.

    >>> cell = Direction(np.ones((8, 1), np.float32), np.ones((8, 2), np.float32))
    >>> layers = [Recurrent("rnn", "lstm", (cell,)), Linear("out", np.ones((1, 2)), None)]
    >>> rnn, out = padded(layers, [4])
    >>> rnn.directions[0].weight_ih.shape, out.weight
    ((16, 1), array([[1., 1., 0., 0.]]))
    """
    recurrent = recurrent_layers(layers)
    check(
        len(sizes) == len(recurrent),
        f"`pad_to` has {len(sizes)} sizes; the net has {len(recurrent)} recurrent layers",
    )
    wanted = iter(sizes)
    found: list[Layer] = []
    written = extra = 0  # features of the recurrent layer before, and how many were added
    for layer in layers:
        if isinstance(layer, Recurrent):
            size = next(wanted)
            _check(layer, size)
            reader = _reading(layer, extra)
            written, extra = layer.outputs, size - layer.outputs
            found.append(_wider(reader, size) if extra else reader)
        elif isinstance(layer, Linear):
            found.append(replace(layer, weight=_columns(layer.weight, extra)))
            extra = 0
        else:
            found.append(layer)
    if extra:
        raise L0GateError(
            f"`pad_to`: the net's output is its last recurrent layer, of {written} neurons, and"
            " would get more; end the net with a linear layer"
        )
    return found


def _check(layer: Recurrent, size: int) -> None:
    check(
        len(layer.directions) == 1 or size == layer.outputs,
        f"`pad_to`: layer {layer.name!r} has two directions, which are not padded",
    )
    check(
        size >= layer.outputs,
        f"`pad_to` is {size} for layer {layer.name!r}, which has {layer.outputs} neurons; it cannot"
        " be less",
    )
    check(
        layer.activation in _ZERO_AT_ZERO or size == layer.outputs,
        f"`pad_to`: layer {layer.name!r} has activation {layer.activation!r}, which is not 0 at 0,"
        " so that added neurons would not stay 0",
    )


def _columns(weight: Array, extra: int) -> Array:
    return np.pad(weight, ((0, 0), (0, extra))) if extra else weight


def _reading(layer: Recurrent, extra: int) -> Recurrent:
    directions = (replace(d, weight_ih=_columns(d.weight_ih, extra)) for d in layer.directions)
    return replace(layer, directions=tuple(directions))


def _wider(layer: Recurrent, size: int) -> Recurrent:
    (end,) = layer.directions
    extra = size - end.hidden

    def rows(array: Array | None) -> Array | None:
        if array is None:
            return None
        blocks = array.reshape(BLOCKS[layer.cell], end.hidden, *array.shape[1:])
        wide = np.pad(blocks, ((0, 0), (0, extra), *((0, 0),) * (array.ndim - 1)))
        return wide.reshape(-1, *array.shape[1:])

    weight_ih, weight_hh = rows(end.weight_ih), rows(_columns(end.weight_hh, extra))
    assert weight_ih is not None
    assert weight_hh is not None
    return replace(
        layer, directions=(Direction(weight_ih, weight_hh, rows(end.bias_ih), rows(end.bias_hh)),)
    )
