"""How much faster the small net runs than the dense one, both in `l0gate.reference`."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

ROUNDS = 21
_LENGTH = 256  # time steps of a sequence


def speedup(
    layers: Sequence[Mapping[str, Any]],
    dense: Mapping[str, np.ndarray],
    small: Mapping[str, np.ndarray],
    tokens: np.ndarray,
) -> dict[str, Any]:
    """How many times faster the small net runs at batch 1, step by step and on whole sequences.

    In every round both nets run, one after the other. A ratio is the median over the rounds of the
    ratio of the two times. A time is the median over the rounds, in microseconds per time step.
    """
    from l0gate.reference import Net

    nets = [Net(layers).bind(parameters) for parameters in (dense, small)]
    sequence = np.resize(tokens, _LENGTH)
    step = _compare([partial(_stream, net, sequence) for net in nets])
    sequences = _compare([partial(net, sequence[:, None]) for net in nets])
    return {
        "engine": "numpy" if importlib.util.find_spec("numba") is None else "numpy with numba",
        "batch": 1,
        "sequence_length": _LENGTH,
        "latency_step": step["ratio"],
        "latency_step_microseconds": step["microseconds"],
        "sequence": sequences["ratio"],
        "sequence_microseconds": sequences["microseconds"],
    }


def _stream(net: Any, sequence: np.ndarray) -> None:
    state = None
    for token in sequence:
        _, state = net.step(token, state)


def _compare(runs: Sequence[Callable[[], object]]) -> dict[str, Any]:
    """The median time of two runs per time step, and the median ratio of the first to the second.

    Both run once before they are timed.
    """
    for run in runs:
        run()
    times = [[_seconds(run) for run in runs] for _ in range(ROUNDS)]
    dense, small = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "ratio": statistics.median(a / b for a, b in times),
        "microseconds": {"dense": dense / _LENGTH * 1e6, "small": small / _LENGTH * 1e6},
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
