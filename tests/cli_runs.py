"""What the tests of the command line share: tiny options, tasks and reports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import Budget, Pruner
from l0gate._chain import Chain
from l0gate._registry import registry
from l0gate.cli._options import Options
from l0gate.cli._training import (
    Task,
    Training,
    start,
    train,
)

TINY = shlex.split("--hidden 7 5 --embedding 6 --steps 30 --batch 3 --length 8 --budget 40%")


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


OPTIONS = Options("lstm", (5, 4), 4, "50%", None, "numpy", 12, 2, 6, 3, 0.02, 0.3)


def trained(task: Any) -> Any:
    training = start(task)
    for _ in train(task, training):
        pass
    return training


NUMPY = l0gate.get_backend("numpy")


LAYERS = [
    {"type": "embedding", "name": "embedding"},
    {"type": "lstm", "name": "rnn"},
    {"type": "linear", "name": "decoder"},
]


TOKENS = np.random.default_rng(0).integers(5, size=200)


def make_task(gated: bool = True, steps: int = 12, method: Any = None, **changes: Any) -> Task:
    net = NUMPY.net(LAYERS)
    pruner = None
    if gated:
        chain = Chain(LAYERS, False)
        budget = Budget(parameters=0.5, warmup=0.2, settle=0.5)
        pruner = Pruner(chain.layout, budget, backend=NUMPY, method=method, freeze=chain.frozen)
    options: dict[str, Any] = {
        "backend": NUMPY,
        "net": net,
        "sizes": {"embedding": 3, "rnn": 4, "decoder": 5},
        "pruner": pruner,
        "tokens": TOKENS,
        "vocabulary": 5,
        "steps": steps,
        "batch": 2,
        "length": 7,
        "seed": 3,
        "rate": 0.01,
        "gate_rate": 0.1,
    }
    return Task(**{**options, **changes})


def run_all(task: Task, training: Training) -> Training:
    for _ in train(task, training):
        pass
    return training


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, (tuple, list)):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def net(parameters: int, recurrent: int, sizes: list[int], **figures: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "recurrent_parameters": recurrent,
        "bytes": 4 * parameters,
        "input_size": sizes[0],
        "hidden_sizes": sizes[1:],
        **figures,
    }


REPORT: dict[str, Any] = {
    "metric": "bits_per_character",
    "text": {"name": "book.txt", "unit": "character"},
    "options": {"steps": 2000},
    "dense": net(1234567, 1000000, [64, 256, 128], bits_per_character=1.5),
    "gated": net(1234567, 1000000, [64, 256, 128], bits_per_character=1.75),
    "small": net(234567, 271000, [60, 99, 8], bits_per_character=1.75),
    "direct": net(234567, 271000, [60, 99, 8], bits_per_character=2.0),
    "budget": {"used": 271000, "limit": 280000.0, "with_one_more_neuron": 280123},
    "comparison": {"gap_recovered": 0.5},
    "certificate": {
        "max_abs_difference": 0.0,
        "tolerance": 1e-9,
        "sequences": 4,
        "forced_open": 1,
        "forced_closed": 23,
    },
    "speedup": {
        "engine": "numpy with numba",
        "latency_step": 2.25,
        "latency_step_microseconds": {"dense": 45.4, "small": 20.2},
        "sequence": 3.5,
    },
    "seconds": {"gated": 60.4, "dense": 30.2, "direct": 9.8, "this_run": 123.4},
}


@contextmanager
def registered(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin of "a-dist" beside another that is broken, on a wide screen."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(registry, "problems", [*registry.problems, "plugin x: is [b]wrong[/b]"])
    registry.names()
    registry.register(plugin, "a-dist")
    try:
        yield
    finally:
        registry.unregister("a-dist")
