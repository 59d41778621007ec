"""Packs the weights of layers for compiled code, in the order in which it reads them.

`step_kernels.py` explains the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from l0gate.reference._scan import Array
from l0gate.reference.compiled.inference.feedforward_kernels import is_dense
from l0gate.reference.compiled.inference.plan import (
    GRU,
    GRU_RESET_BEFORE,
    LINEAR,
    LSTM,
    RELU,
    SIGMOID,
    TANH,
)
from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.simd.memory import LINE
from l0gate.reference.compiled.simd.tiles import strip_of


def _blocked(matrix: Array, gates: int) -> Array:
    """Pack a matrix (gates * H, K) into one panel (K, gates, lanes) per block, flattened.

    The last block is padded with zeros. Each panel is cut into strips of gates: see `strip_of`.
    """
    lanes = lanes_of(matrix.dtype)
    rows, depth = matrix.shape
    H = rows // gates
    blocks = -(-H // lanes)
    padded = np.zeros((gates, blocks * lanes, depth), matrix.dtype)
    padded[:, :H] = matrix.reshape(gates, H, depth)
    strip = strip_of(gates)
    strips = padded.reshape(gates // strip, strip, blocks, lanes, depth)
    blocked: Array = strips.transpose(2, 0, 4, 1, 3).ravel()
    return blocked


def in_lines(parts: Sequence[Array]) -> Array:
    """Concatenate arrays (1-d) in memory that begins at the border of a cache line.

    Then no vector crosses the border of two lines, because blocks consist of whole vectors. If half
    of the vectors did, reading weights from the second- or third-level cache would take a quarter
    longer.
    """
    size, item = sum(part.size for part in parts), parts[0].itemsize
    memory = np.empty(size + LINE // item, parts[0].dtype)
    before = -memory.ctypes.data % LINE // item
    joined: Array = memory[before : before + size]
    np.concatenate(parts, out=joined)
    return joined


def _blocked_bias(bias: Array | None, matrix: Array, gates: int) -> Array:
    """Pack the bias (gates * H,) of a matrix (gates * H, K) in blocks; zeros for None."""
    return _blocked((np.zeros(len(matrix), matrix.dtype) if bias is None else bias)[:, None], gates)


# The result of packing a layer: its kind, the sizes H of its states, and its packed parameters.
_Packed = tuple[int, tuple[int, ...], list[Array]]


def _packed_input(weight: Array, bias: Array | None, gates: int) -> list[Array]:
    """Pack the bias and the input matrix (gates * H, inputs) of a recurrent layer."""
    rows, inputs = weight.shape
    if is_dense(lanes_of(weight.dtype), gates, rows // gates, inputs):
        return pack_linear(weight, bias)[2]
    return [_blocked_bias(bias, weight, gates), _blocked(weight, gates)]


def pack_lstm(weight_ih: Array, weight_hh: Array, bias: Array | None) -> _Packed:
    H = weight_hh.shape[1]
    return LSTM, (H, H), [*_packed_input(weight_ih, bias, 4), _blocked(weight_hh, 4)]


def pack_gru(
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    bias_hn: Array | None,
    reset_after: bool,
) -> _Packed:
    H = weight_hh.shape[1]
    parts = _packed_input(weight_ih, bias, 3)
    if not reset_after:
        parts += [_blocked(weight_hh[: 2 * H], 2), _blocked(weight_hh[2 * H :], 1)]
        return GRU_RESET_BEFORE, (H,), parts
    recurrent = np.zeros(3 * H, weight_hh.dtype)
    if bias_hn is not None:
        recurrent[2 * H :] = bias_hn
    parts += [_blocked_bias(recurrent, weight_hh, 3), _blocked(weight_hh, 3)]
    return GRU, (H,), parts


def pack_linear(weight: Array, bias: Array | None) -> _Packed:
    """Pack the biases, then weight (O, I), in blocks of as many rows as two registers hold."""
    width = 2 * lanes_of(weight.dtype)
    padded = np.zeros((-(-len(weight) // width) * width, weight.shape[1] + 1), weight.dtype)
    padded[: len(weight), 1:] = weight
    if bias is not None:
        padded[: len(weight), 0] = bias
    blocks = padded.reshape(-1, width, padded.shape[1]).transpose(0, 2, 1)
    return LINEAR, (), [blocks[:, 0].ravel(), blocks[:, 1:].ravel()]


PACKERS: dict[str, Callable[..., _Packed]] = {
    "lstm": pack_lstm,
    "gru": pack_gru,
    "linear": pack_linear,
}
ACTIVATIONS = {"tanh": TANH, "sigmoid": SIGMOID, "relu": RELU}
