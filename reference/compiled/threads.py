# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Calls of kernels: what they are given is checked, and threads share the sequences."""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import config

from l0gate._errors import L0GateError, check
from l0gate.reference._cells import Array

_DTYPES = np.dtype(np.float32), np.dtype(np.float64)


def check_arrays(**arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Compiled code trusts shapes and dtypes: a wrong one would read foreign memory."""
    first, (array, _) = next(iter(arrays.items()))
    dtype = array.dtype
    if dtype not in _DTYPES:
        raise L0GateError(f"`{first}` has dtype {dtype}; compiled code takes float32 or float64")
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise L0GateError(f"`{name}` has shape {array.shape}; expected {shape}")
        if array.dtype != dtype:
            raise L0GateError(f"`{name}` has dtype {array.dtype}; expected {dtype}")


# Below about 0.1 ms of work, in multiply-adds, waking a thread costs more than it saves.
LEAST_WORK, STEP_WORK = 20_000_000, 8192

_threads: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def set_num_threads(threads: int) -> None:
    """Let scans use up to so many threads; at first NUMBA_NUM_THREADS, or the cores there are."""
    global _threads
    check(threads >= 1, f"`threads` is {threads}; it must be at least 1")
    _threads = threads


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process: a fork inherits none, so it makes its own."""
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="l0gate")


def share(call: Any, T: int, B: int, size: int, *arguments: Any) -> Any:
    """Call a kernel (first, last, *arguments) for all B sequences, on several threads if it pays.

    size: numbers in the packed weights. Returns what a call does.
    """
    # Fewer than 4 rows leave a tile half empty: they wait for the weights, not for arithmetic.
    parts = min(_threads, -(-B // 4)) if T * B * (size + STEP_WORK) > LEAST_WORK else 1
    if parts < 2:
        return call(0, B, *arguments)
    # An odd row needs a tile of its own, which reads all weights for little.
    ends = [2 * round(B * part / parts / 2) for part in range(parts)] + [B]
    others = [
        _pool(os.getpid()).submit(call, first, last, *arguments)
        for first, last in itertools.pairwise(ends[1:])
    ]
    result = call(0, ends[1], *arguments)
    for other in others:
        other.result()
    return result
