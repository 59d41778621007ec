"""Memory in compiled code: addresses, alignment, copies, single numbers."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from l0gate.reference.compiled.simd import memory
from l0gate.reference.compiled.simd.lanes import lanes_of

DTYPES = [np.float32, np.float64]


@numba.njit
def move(x, y, count):
    like, source, to = x.dtype.type(0), memory.address(x), memory.address(y)
    memory.copy(like, to + 1, source + 2, count)
    memory.clear(like, to + 1 + count, 2)
    memory.set_number(memory.number_at(like, source) + memory.number_at(like, source + 1), to)
    memory.keep(x)
    memory.keep(y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_copied_cleared_read_and_set(dtype):
    x, y = np.arange(1, 9, dtype=dtype), np.full(8, 7, dtype)
    move(x, y, 3)
    assert y.tolist() == [3, 3, 4, 5, 0, 0, 7, 7]
    assert x.tolist() == list(range(1, 9))


@numba.njit
def integer(x, n):
    found = memory.integer_at(memory.address(x) + n)
    memory.keep(x)
    return found


def test_integers_are_read():
    assert [integer(np.array([5, -(2**40)]), n) for n in (0, 1)] == [5, -(2**40)]


@numba.njit
def facts(x):
    like = x.dtype.type(0)
    found = memory.address(x), memory.aligned(x), memory.lanes_in(like)
    return found, np.empty(memory.keep(x), memory.type_of(like))


@pytest.mark.parametrize("dtype", DTYPES)
def test_addresses_count_numbers(dtype):
    x = np.zeros(5, dtype)
    (where, aligned, lanes), like = facts(x)
    assert where == x.ctypes.data // x.itemsize
    assert aligned
    assert lanes == lanes_of(x.dtype)
    assert (like.shape, like.dtype) == ((5,), dtype)


@numba.njit(numba.boolean(numba.types.Array(numba.float32, 1, "A", aligned=True)))
def is_aligned(x):
    return memory.aligned(x)


def test_what_is_not_aligned_is_noticed():
    function = next(iter(is_aligned.overloads.values())).entry_point
    data = np.zeros(17, np.uint8)
    for offset in range(4):
        x = data[offset : offset + 12].view(np.float32)
        assert function(x) == (x.ctypes.data % 4 == 0)
