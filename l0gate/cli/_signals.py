"""After Ctrl-C or kill, the training finishes its step, so that the job can write a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether a signal has asked the training to stop: `requested` is its number, or 0."""

    requested: int = 0


class StoppedError(Exception):
    """A signal ended the training, after a checkpoint was written."""

    def __init__(self, number: int, phase: str, step: int) -> None:
        super().__init__(f"stopped in the {phase} net after step {step:,}")
        self.exit_code = 128 + number


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """A context in which the first SIGINT or SIGTERM only sets `requested`.

    A second signal is handled as it was before the context.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.requested = number
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
