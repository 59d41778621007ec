# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""What the compiled scans share: loops over neurons, products, and how arguments are handed over.

A product runs over register tiles, which keep a few rows of the result in vector registers, and
over a matrix packed into panels as wide as a tile; on small batches that is nearly twice as fast as
BLAS.

Loops over neurons are many and short: with more arrays in one, LLVM gives up proving that they do
not overlap and leaves it scalar.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._cells import Array
from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.lanes import (
    NEAR,
    address,
    keep,
    lanes_of,
    product_2,
    sigmoid_of,
    tanh_of,
)

# --- elementwise ----------------------------------------------------------------------------------


@inlined
def set_sigmoid(y, x):
    for j in range(len(y)):
        y[j] = sigmoid_of(x[j])


@inlined
def set_tanh(y, x):
    for j in range(len(y)):
        y[j] = tanh_of(x[j])


# Loops stand in for assignments to slices, which take numba seconds to compile.


@inlined
def set_to(y, x):
    for j in range(len(y)):
        y[j] = x[j]


@inlined
def set_zero(y):
    for j in range(len(y)):
        y[j] = 0


@inlined
def set_product(out, x, y):
    for j in range(len(out)):
        out[j] = x[j] * y[j]


# --- products -------------------------------------------------------------------------------------

_VECTORS = 2  # the width of a panel


@inlined
def add_product(out, a, start, panels):
    """out += a[:, start : start + K] @ matrix, for the panels of a matrix (K, N).

    out is as wide as all panels together, a multiple of their width.
    """
    rows, columns = out.shape
    depth, width = panels.shape[1], panels.shape[2]
    like = panels.dtype.type(0)
    left, result, step = address(a) + start, address(out), a.shape[1]
    far = panels.size * panels.itemsize > NEAR
    for p in range(len(panels)):
        place, panel = result + p * width, address(panels) + p * depth * width
        product_2(like, far, rows, left, step, panel, depth, place, columns, place, columns)
    keep(a)
    keep(out)


def _packed_shape(depth: int, columns: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    width = _VECTORS * lanes_of(dtype)
    return -(-columns // width), depth, width


def pack(matrix: Array) -> Array:
    """The panels (P, K, width) of a matrix (K, N), padded with zeros to P * width columns.

    >>> panels = pack(np.ones((3, 2), np.float32))
    >>> float(panels.sum()), panels.shape[1]
    (6.0, 3)
    """
    depth, columns = matrix.shape
    panels = np.zeros(_packed_shape(depth, columns, matrix.dtype), matrix.dtype)
    width = panels.shape[2]
    for p, panel in enumerate(panels):
        part = matrix[:, p * width : (p + 1) * width]
        panel[:, : part.shape[1]] = part
    return panels


@inlined
def scratch(rows, panels):
    """Room for a product with `panels`, zero so that no row holds a NaN by chance."""
    return np.zeros((rows, panels.shape[0] * panels.shape[2]), panels.dtype)


# --- calls ----------------------------------------------------------------------------------------


def contiguous(*arrays: Array) -> list[Array]:
    return [np.ascontiguousarray(array) for array in arrays]


def copy_of(x: Array) -> Array:
    return np.array(x, order="C")


def step_counts(lengths: Array | None, T: int, B: int) -> Array:
    """The number of steps of every sequence."""
    if lengths is None:
        return np.full(B, T, np.int64)
    counts = np.ascontiguousarray(lengths, np.int64)
    if counts.shape != (B,):
        raise L0GateError(f"`lengths` has shape {counts.shape}; expected {(B,)}")
    if B and not (counts.min() >= 0 and counts.max() <= T):
        raise L0GateError(f"`lengths` is {counts}; each must be within 0..{T}")
    return counts
