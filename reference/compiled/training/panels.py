# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Products with a matrix that is packed into panels.

The columns of the matrix are packed into panels, each as wide as the register tiles that multiply
it (see `simd/tiles.py`). On small batches that is nearly twice as fast as BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate.reference._scan import Array
from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.simd.memory import NEAR, address, keep
from l0gate.reference.compiled.simd.tiles import product_2

_VECTORS = 2  # the width of a panel, in vector registers


@inlined
def add_product(out, a, start, panels):
    """out (rows, P * width) += a[:, start : start + K] @ matrix, for a (rows, ...).

    panels (P, K, width) are those of a matrix (K, N).
    """
    rows, columns = out.shape
    depth, width = panels.shape[1], panels.shape[2]
    like = panels.dtype.type(0)
    left, result, step = address(a) + start, address(out), a.shape[1]
    far = panels.size * panels.itemsize > NEAR
    for p in range(len(panels)):
        sums, panel = result + p * width, address(panels) + p * depth * width
        product_2(like, far, rows, left, step, panel, depth, sums, columns, sums, columns)
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
    """Zeros (rows, P * width), to hold a product with panels (P, K, width).

    The padding columns must not be uninitialised: a NaN there would spread to other numbers.
    """
    return np.zeros((rows, panels.shape[0] * panels.shape[2]), panels.dtype)
