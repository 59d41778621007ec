"""Weights of recurrent layers as Keras keeps them; RTNeural's JSON has the same.

Matrices are (inputs, units), the blocks of a GRU stand as z, r, h. There is one bias, the sum of
both, but two rows of them for a GRU that resets after the product.
"""

from __future__ import annotations

import numpy as np

from l0gate.formats.layers import Direction, Recurrent

__all__ = ["from_keras", "swapped", "to_keras"]


def to_keras(layer: Recurrent, end: Direction) -> list[np.ndarray]:
    """Kernel (I, G H), recurrent kernel (H, G H) and, if there is one, bias of one direction."""
    own = [end.weight_ih, end.weight_hh]
    if end.bias_ih is not None:
        b_ih, b_hh = end.biases()
        two = layer.cell == "gru" and layer.reset_after
        own += [b_ih, b_hh] if two else [b_ih + b_hh]
    if layer.cell == "gru":
        own = [swapped(array) for array in own]
    kernel, recurrent, *bias = own
    return [kernel.T, recurrent.T, *([np.stack(bias)] if len(bias) == 2 else bias)]


def from_keras(
    cell: str, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray | None
) -> Direction:
    """The inverse of `to_keras`. A single bias becomes the input bias, beside one of zeros.

    >>> end = from_keras("lstm", np.ones((2, 12)), np.ones((3, 12)), np.ones(12))
    >>> end.weight_ih.shape, end.weight_hh.shape, float(end.biases()[1].max())
    ((12, 2), (12, 3), 0.0)
    """
    weights = [kernel.T, recurrent.T]
    if bias is not None:
        weights += [bias, np.zeros_like(bias)] if bias.ndim == 1 else [bias[0], bias[1]]
    return Direction(*(swapped(array) if cell == "gru" else array for array in weights))


def swapped(array: np.ndarray) -> np.ndarray:
    """Exchange the first two of three blocks of rows: Keras's z, r, h and torch's r, z, n."""
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])
