"""Times functions that take turns in one process, and describes the machine.

Nothing here imports NumPy, so that a script can set the number of threads first.
"""

from __future__ import annotations

import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("l0gate", "numpy", "numba", "onnxruntime", "torch")
SAMPLE = 1e-3  # least seconds of a sample
ROUNDS = (5, 25)  # fewest and most


def machine() -> dict[str, Any]:
    """The machine and the versions of the packages.

    >>> list(machine())[:3]
    ['processor', 'isa', 'cores']
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "isa": _isa(facts.get("flags", "").split()),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: value for name, value in versions.items() if value},
    }


def _isa(flags: Sequence[str]) -> str:
    """The widest vector instructions that the processor has."""
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
    return next((name for flag, name in known.items() if flag in flags), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 1.0,
    rounds: tuple[int, int] = ROUNDS,
    pause: float = 0.0,
    sample: float = SAMPLE,
) -> dict[str, list[float]]:
    """Seconds per call by name, one value per round. The calls take turns.

    A round takes one sample of every call. A sample repeats its call for at least `sample` seconds.
    There are as many rounds as fit in `seconds`, within `rounds` (fewest, most). Every other round
    is in reverse order, so that a call does not always follow the same one. Before a sample there
    is a pause, in which threads of the previous call stop waiting for work. Then a short call runs
    once untimed, so that the caches hold its data.
    """
    counts = {name: _count(call, sample) for name, call in calls.items()}
    took = sum(count * least for count, least in counts.values())
    least_rounds, most_rounds = rounds
    total = max(least_rounds, min(most_rounds, int(seconds / (took + len(calls) * pause))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(total):
            for name in list(calls)[:: -1 if number % 2 else 1]:
                time.sleep(pause)
                count, least = counts[name]
                if least < 50 * sample:
                    calls[name]()
                times[name].append(_timed(calls[name], count) / count)
    finally:
        if collecting:
            gc.enable()
    return times


def _count(call: Callable[[], object], sample: float = SAMPLE) -> tuple[int, float]:
    """The number of calls in a sample, and the seconds of one call. Compiles and warms up first."""
    call()
    call()
    count, took = 1, _timed(call, 1)
    while took < sample:
        count = max(count + 1, math.ceil(1.2 * count * sample / max(took, sample / 100)))
        took = _timed(call, count)
    return count, took / count


def _timed(call: Callable[[], object], count: int) -> float:
    turns = range(count)
    start = time.perf_counter()
    for _ in turns:
        call()
    return time.perf_counter() - start


def times_faster(times: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """How many times faster ours is: the median over rounds of their time divided by ours.

    >>> times_faster({"a": [1.0, 1.0, 2.0], "b": [2.0, 3.0, 8.0]}, "a", "b")
    3.0
    """
    pairs = zip(times[ours], times[theirs], strict=True)
    return digits(statistics.median(b / a for a, b in pairs))


def summary(times: Mapping[str, Sequence[float]], ours: str) -> dict[str, Any]:
    """Median microseconds by name, and how many times faster `ours` is than each of the others."""
    return {
        "us": {name: digits(1e6 * statistics.median(values)) for name, values in times.items()},
        "faster": {name: times_faster(times, ours, name) for name in times if name != ours},
    }


def digits(value: float) -> float:
    """Round to four significant digits, more than can be measured.

    >>> digits(0.0123456)
    0.01235
    """
    return float(f"{value:.4g}")


def mean(values: Iterable[float]) -> float:
    """The geometric mean; NaN where there are no values."""
    values = list(values)
    return statistics.geometric_mean(values) if values else math.nan
