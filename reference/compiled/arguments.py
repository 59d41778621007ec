"""Prepares the arrays that kernels are given: checks of shapes and dtypes, copies in C order."""

from __future__ import annotations

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._scan import Array

_DTYPES = np.dtype(np.float32), np.dtype(np.float64)


def check_arrays(**arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Check arrays, each given with its expected shape; all must have one dtype.

    Compiled code does not check shapes: with a wrong one it would read or write other memory.
    """
    first, (array, _) = next(iter(arrays.items()))
    dtype = array.dtype
    if dtype not in _DTYPES:
        raise L0GateError(f"`{first}` has dtype {dtype}; compiled code takes float32 or float64")
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise L0GateError(f"`{name}` has shape {array.shape}; expected {shape}")
        if array.dtype != dtype:
            raise L0GateError(f"`{name}` has dtype {array.dtype}; expected {dtype}")


def contiguous(*arrays: Array) -> list[Array]:
    """The arrays in C order, copied where they are not."""
    return [np.ascontiguousarray(array) for array in arrays]


def copy_of(x: Array) -> Array:
    """A copy in C order, for a kernel to write to."""
    return np.array(x, order="C")
