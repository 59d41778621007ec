"""What is shown while a job runs, in a terminal and elsewhere."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
import rich.progress
from rich.console import Console
from rich.text import Text

from l0gate.cli import _screen
from l0gate.cli._screen import Screen, loss_and_size


def screen(terminal: bool) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, force_terminal=terminal, width=120, soft_wrap=True)), out


def training_at(step: int, gated: bool = True) -> Any:
    gates: Any = {} if gated else None
    losses = [math.log(2) * (1 + k) for k in range(step)]
    shares = [0.5] * (step - 1) + [0.251]
    return SimpleNamespace(step=step, losses=losses, size_fractions=shares, gates=gates)


def test_figures_are_of_the_last_fifty_steps() -> None:
    assert loss_and_size(training_at(0)) == ""
    assert loss_and_size(training_at(3)) == "2.000 bits, size 25%"
    assert loss_and_size(training_at(3, gated=False)) == "2.000 bits"
    assert loss_and_size(training_at(100, gated=False)) == "75.500 bits"


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(_screen.time, "monotonic", lambda: clock[0])
    shown, out = screen(terminal=False)
    with shown.follow("dense", 2000) as show:
        show(training_at(1000))
        for step, now in (
            (1001, 109.0),
            (1002, 110.0),
            (1003, 119.0),
            (1500, 120.0),
            (2000, 121.0),
        ):
            clock[0] = now
            show(training_at(step))
    with shown.working("measuring [b]"):
        pass
    with shown.follow("gated", 3) as show:
        show(training_at(0))
    # Every ten seconds, and at the end; the time left from the pace since the start.
    assert out.getvalue().splitlines() == [
        "dense: 2,000 steps, from 1,000",
        "dense: 1,002/2,000  977.500 bits, size 25%  4990 s left",
        "dense: 1,500/2,000  1475.500 bits, size 25%  20 s left",
        "dense: 2,000/2,000  1975.500 bits, size 25%  0 s left",
        "measuring [b] ...",
        "gated: 3 steps",
    ]


def test_a_bar_in_a_terminal() -> None:
    shown, out = screen(terminal=True)
    with shown.follow("dense", 20) as show:
        show(training_at(0))
        show(training_at(7))
    with shown.working("measuring the speed"):
        pass
    text = out.getvalue()
    for part in ("dense", "7/20", "4.000 bits", "left", "measuring the speed"):
        assert part in text
    assert "..." not in text


def test_the_columns_of_the_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with _screen._bar(console) as progress:
        task = progress.add_task("dense", total=2000, figures="")
        progress.update(task, completed=500, figures="1.234 bits")
        kinds = [type(column) for column in progress.columns]
        shown = [column(progress.tasks[0]) for column in progress.columns]
    assert kinds == [
        rich.progress.SpinnerColumn,
        rich.progress.TextColumn,
        rich.progress.BarColumn,
        rich.progress.MofNCompleteColumn,
        rich.progress.TextColumn,
        rich.progress.TimeElapsedColumn,
        rich.progress.TextColumn,
        rich.progress.TimeRemainingColumn,
    ]
    texts = [text.plain if isinstance(text, Text) else "" for text in shown]
    assert (texts[1], texts[3], texts[4], texts[6]) == ("dense ", " 500/2000", "1.234 bits", "left")
    assert progress.live.refresh_per_second == 4
