"""Divides the sequences of a batch among threads."""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba import config

from l0gate._errors import check

# Work is counted in multiply-adds. With less than LEAST_WORK, about 0.1 ms, waking a thread costs
# more time than it saves.
LEAST_WORK = 20_000_000
STEP_WORK = 8192  # the work of one step of one sequence, besides the matrix products

_threads: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def set_num_threads(threads: int) -> None:
    """Let compiled nets use up to `threads` threads: see `l0gate.reference.set_num_threads`."""
    global _threads
    check(threads >= 1, f"`threads` is {threads}; it must be at least 1")
    _threads = threads


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The thread pool of a process. A forked process inherits no threads, so it makes its own."""
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="l0gate")


def run_on_threads(call: Any, T: int, B: int, size: int, *arguments: Any) -> Any:
    """Run a kernel for all B sequences, on several threads if that is faster.

    call(first, last, *arguments) runs the sequences first..last-1 of the batch; each thread makes
    one such call. T is the number of time steps, size the number of packed weights; they decide how
    many threads are used. Returns the result of the first call.
    """
    # At least 4 sequences per thread: with fewer, most of the time goes into reading the weights.
    parts = min(_threads, -(-B // 4)) if T * B * (size + STEP_WORK) > LEAST_WORK else 1
    if parts < 2:
        return call(0, B, *arguments)
    # An even number of sequences per thread: an odd one would need a tile with one row, which reads
    # all weights again.
    ends = [2 * round(B * part / parts / 2) for part in range(parts)] + [B]
    others = [
        _pool(os.getpid()).submit(call, first, last, *arguments)
        for first, last in itertools.pairwise(ends[1:])
    ]
    result = call(0, ends[1], *arguments)
    for other in others:
        other.result()
    return result
