"""Speed of the small net against the dense one, side by side in one engine."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

_ROUNDS = 21
_LENGTH = 256  # time steps of a sequence


def speedup(
    layers: Sequence[Mapping[str, Any]],
    dense: Mapping[str, np.ndarray],
    small: Mapping[str, np.ndarray],
    tokens: np.ndarray,
) -> dict[str, Any]:
    """How many times faster the small net runs at batch 1, step by step and on whole sequences.

    Both run in `l0gate.reference`, in turns; a figure is the median over rounds of the ratio of
    their times. Times are medians too, in microseconds per time step.
    """
    from l0gate.reference import Net

    nets = [Net(layers).bind(parameters) for parameters in (dense, small)]
    sequence = np.resize(tokens, _LENGTH)
    step = _compare([partial(_stream, net, sequence) for net in nets])
    whole = _compare([partial(net, sequence[:, None]) for net in nets])
    return {
        "engine": "numpy" if importlib.util.find_spec("numba") is None else "numpy with numba",
        "batch": 1,
        "sequence_length": _LENGTH,
        "latency_step": step["ratio"],
        "latency_step_microseconds": step["microseconds"],
        "sequence": whole["ratio"],
        "sequence_microseconds": whole["microseconds"],
    }


def _stream(net: Any, sequence: np.ndarray) -> None:
    state = None
    for token in sequence:
        _, state = net.step(token, state)


def _compare(runs: Sequence[Callable[[], object]]) -> dict[str, Any]:
    """Median time of each run per time step, and of the first over the second, round by round."""
    for run in runs:
        run()
    times = [[_seconds(run) for run in runs] for _ in range(_ROUNDS)]
    dense, small = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "ratio": statistics.median(a / b for a, b in times),
        "microseconds": {"dense": dense / _LENGTH * 1e6, "small": small / _LENGTH * 1e6},
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
