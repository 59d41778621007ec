"""Calls take turns, and their times are summed up rightly. Nothing is timed here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


def test_calls_take_turns_and_ratios_hold_when_all_slow_down(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = load("_timing")
    now, order = [0.0], []

    def call(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            now[0] += seconds * (1 + now[0])  # the machine gets slower and slower

        return run

    clock = SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", clock)
    times = timing.in_turns({"a": call("a", 1e-4), "b": call("b", 3e-4)}, rounds=(4, 4))
    assert len(times["a"]) == len(times["b"]) == 4
    assert timing.times_faster(times, "a", "b") == pytest.approx(3, rel=0.05)
    turns = [name for name, before in zip(order, ["", *order], strict=False) if name != before]
    assert turns[-4:] == ["b", "a", "b", "a"] or turns[-4:] == ["a", "b", "a", "b"]
    assert timing.summary(times, "a")["faster"].keys() == {"b"}


def test_short_calls_are_repeated(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = load("_timing")
    now = [0.0]

    def call() -> None:
        now[0] += 1e-6

    clock = SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", clock)
    count, took = timing._count(call)
    assert count * took >= timing.SAMPLE
    assert took == pytest.approx(1e-6)
