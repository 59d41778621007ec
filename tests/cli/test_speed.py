"""The speed of the small net against the dense one."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import numpy as np
import pytest

from l0gate.cli import _speed


def test_the_speed_is_a_median_of_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nets on a clock that they move themselves."""
    now, runs = [0.0], []

    class Net:
        def __init__(self, layers: Any) -> None:
            assert layers == "layers"

        def bind(self, parameters: Any) -> Any:
            # A slow round now and then must not count.
            self.costs = {"dense": itertools.cycle([6.0, 6.0, 90.0]), "small": iter([1.5] * 99999)}[
                parameters
            ]
            self.name = parameters
            return self

        def spend(self, kind: str, given: Any) -> None:
            runs.append((self.name, kind, given))
            now[0] += next(self.costs) if kind == "whole" else 0.01 * len(self.name)

        def __call__(self, x: np.ndarray) -> None:
            self.spend("whole", x)

        def step(self, token: Any, state: Any) -> tuple[Any, Any]:
            self.spend("step", (int(token), state))
            return None, (state or 0) + 1

    monkeypatch.setattr("l0gate.reference.Net", Net)
    monkeypatch.setattr(importlib.util, "find_spec", {"numba": "a spec"}.get)
    monkeypatch.setattr(_speed.time, "perf_counter", lambda: now[0])
    found = _speed.speedup("layers", "dense", "small", np.arange(10))  # type: ignore[arg-type]
    assert found.pop("engine") == "numpy with numba"
    assert found == {
        "batch": 1,
        "sequence_length": 256,
        "latency_step": pytest.approx(1.0),
        "latency_step_microseconds": pytest.approx({"dense": 5e4, "small": 5e4}),
        "sequence": 4.0,
        "sequence_microseconds": pytest.approx({"dense": 6e6 / 256, "small": 1.5e6 / 256}),
    }
    steps = [run for run in runs if run[1] == "step"]
    # Both in turns: once to warm up, then 21 rounds; the state carried, the text repeated.
    assert len(steps) == 2 * 22 * 256
    assert [name for name, _, (_, state) in steps if state is None] == ["dense", "small"] * 22
    assert [given for _, _, given in steps[:12]] == [(k % 10, k or None) for k in range(12)]
    wholes = [given for _, kind, given in runs if kind == "whole"]
    assert len(wholes) == 2 * 22
    np.testing.assert_array_equal(wholes[0], np.resize(np.arange(10), 256)[:, None])
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    again = _speed.speedup("layers", "dense", "small", np.arange(10))  # type: ignore[arg-type]
    assert again["engine"] == "numpy"
