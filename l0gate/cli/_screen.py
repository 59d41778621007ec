"""The progress of a job: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from l0gate.cli._training import Training

_BETWEEN_LINES = 10.0  # seconds, where there is no terminal
_AVERAGED = 50  # steps

Show = Callable[[Training], None]


class Screen:
    """Writes the messages and the progress of a job to standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line of text as it is: brackets are not read as markup."""
        self.console.print(text, markup=False)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show `what` during a long operation, with a spinner in a terminal."""
        if self.console.is_terminal:
            with self.console.status(what):
                yield
        else:
            self.say(f"{what} ...")
            yield

    @contextmanager
    def follow(self, phase: str, steps: int) -> Iterator[Show]:
        """Yield a function that shows how far a training is: loss, expected size, time left."""
        if self.console.is_terminal:
            with _bar(self.console) as progress:
                task = progress.add_task(phase, total=steps, figures="")

                def show(training: Training) -> None:
                    progress.update(
                        task, completed=training.step, figures=loss_and_size(training) or "starting"
                    )

                yield show
        else:
            yield self._lines(phase, steps)

    def _lines(self, phase: str, steps: int) -> Show:
        begun = last = time.monotonic()
        first: int | None = None

        def show(training: Training) -> None:
            nonlocal last, first
            now = time.monotonic()
            if first is None:
                first = training.step
                self.say(f"{phase}: {steps:,} steps" + (f", from {first:,}" if first else ""))
            elif now - last >= _BETWEEN_LINES or training.step == steps:
                last = now
                left = (now - begun) / (training.step - first) * (steps - training.step)
                done = f"{phase}: {training.step:,}/{steps:,}"
                self.say(f"{done}  {loss_and_size(training)}  {left:.0f} s left")

        return show


def loss_and_size(training: Training) -> str:
    """The loss averaged over the last steps and, if the net has gates, its expected size."""
    if not training.losses:
        return ""
    recent = training.losses[-_AVERAGED:]
    text = f"{sum(recent) / len(recent) / math.log(2):.3f} bits"
    return text if training.gates is None else f"{text}, size {training.size_fractions[-1]:.0%}"


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<6}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )
