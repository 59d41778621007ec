"""Profiles for hypothesis: `fast` by default, `deep` for long runs (HYPOTHESIS_PROFILE=deep).

`mutation` is for tests/mutate.py: the same examples in every run, and no search for small ones.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# Kernels compile on their first call, which no per-example deadline survives.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=25, stateful_step_count=20, **_COMMON)
settings.register_profile("deep", max_examples=500, stateful_step_count=30, **_COMMON)
settings.register_profile(
    "mutation",
    max_examples=10,
    stateful_step_count=20,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    **{**_COMMON, "suppress_health_check": list(HealthCheck)},
)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fast")
settings.load_profile(_PROFILE)

# What else is installed must not change what the suite sees.
os.environ.setdefault("L0GATE_PLUGINS", "")


def _load_ahead() -> None:
    """What tests load when they need it, and kernels: a fork for every mutant inherits them."""
    import matplotlib.figure  # noqa: F401
    import numpy as np
    import rich.progress  # noqa: F401
    import torch._dynamo  # noqa: F401
    import typer  # noqa: F401

    from l0gate.reference import Net

    for kind in ("lstm", "gru"):
        net = Net([{"type": kind, "name": "rnn"}, {"type": "linear", "name": "out"}])
        for dtype in (np.float32, np.float64):
            sizes = {"rnn": 3, "out": 2}
            parameters = net.init(np.random.default_rng(0), input_size=2, sizes=sizes, dtype=dtype)
            x = np.ones((2, 1, 2), dtype)
            net.loss_and_gradients(parameters, x, np.zeros((2, 1), int))
            net.bind(parameters, engine="numba")(x)
            net.bind(parameters, engine="numba").step(x[0, 0])


def _quick_first(items: list[pytest.Item]) -> None:
    """The quickest file first, and within it the quickest test: what a file shares is made once."""
    try:
        seconds = json.loads(Path("mutmut-stats.json").read_text())["duration_by_test"]
    except FileNotFoundError:  # the run that measures them
        return
    files: dict[Path, float] = defaultdict(float)
    for item in items:
        files[item.path] += seconds.get(item.nodeid, 0.0)
    items.sort(key=lambda i: (files[i.path], str(i.path), seconds.get(i.nodeid, 0.0)))


if os.environ.get("L0GATE_TESTS_LOAD_AHEAD"):
    _load_ahead()

if _PROFILE == "mutation":

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """What is noticed at all is noticed soon."""
        _quick_first(items)
