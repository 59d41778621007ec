"""Threads that share the sequences of a batch."""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba import config

from l0gate._errors import check

# In multiply-adds. Below about 0.1 ms of work, waking a thread costs more than it saves.
LEAST_WORK = 20_000_000
STEP_WORK = 8192  # what a step costs beside its products

_threads: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def set_num_threads(threads: int) -> None:
    """Let compiled nets use up to `threads` threads: see `l0gate.reference.set_num_threads`."""
    global _threads
    check(threads >= 1, f"`threads` is {threads}; it must be at least 1")
    _threads = threads


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process. A fork inherits none, so it makes its own."""
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="l0gate")


def share(call: Any, T: int, B: int, size: int, *arguments: Any) -> Any:
    """Call a kernel (first, last, *arguments) for all B sequences, on several threads if that pays.

    T: time steps. size: how many numbers the packed weights have. Returns what one call returns.
    """
    # With fewer than 4 rows a tile is half empty, and reading the weights takes the time.
    parts = min(_threads, -(-B // 4)) if T * B * (size + STEP_WORK) > LEAST_WORK else 1
    if parts < 2:
        return call(0, B, *arguments)
    # Even numbers of rows: an odd one would need a tile of its own, which reads all weights again.
    ends = [2 * round(B * part / parts / 2) for part in range(parts)] + [B]
    others = [
        _pool(os.getpid()).submit(call, first, last, *arguments)
        for first, last in itertools.pairwise(ends[1:])
    ]
    result = call(0, ends[1], *arguments)
    for other in others:
        other.result()
    return result
