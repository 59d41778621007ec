"""The order of gate blocks in ONNX, and its names of functions.

ONNX has the blocks i, o, f, c of an LSTM and z, r, h of a GRU; here they stand as in torch:
i, f, g, o and r, z, n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["FUNCTIONS", "OPERATORS", "from_onnx", "to_onnx"]

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
_TO = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
_FROM = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
# Ours -> ONNX's operator or function of a cell. Those with parameters are elsewhere.
FUNCTIONS = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "softplus": "Softplus",
    "softsign": "Softsign",
}


def to_onnx(cell: str, array: np.ndarray) -> np.ndarray:
    """An array of rows by gate blocks, with the blocks in ONNX's order.

    >>> to_onnx("lstm", np.array([1, 2, 3, 4])).tolist()
    [1, 4, 2, 3]
    """
    return _reordered(array, _TO[cell])


def from_onnx(cell: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_onnx`."""
    return _reordered(array, _FROM[cell])


def _reordered(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[i] for i in order])
