"""Signals: the first asks a training to stop, the second acts."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from l0gate.cli._signals import StoppedError, stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_acts(number: signal.Signals) -> None:
    asked: list[int] = []

    def own(received: int, frame: Any) -> None:
        asked.append(received)

    before = signal.signal(number, own)
    try:
        with stop_signals() as stop:
            assert stop.requested == 0
            os.kill(os.getpid(), number)
            assert stop.requested == number
            assert asked == []
            os.kill(os.getpid(), number)
            assert asked == [number]
        assert signal.getsignal(number) is own
        with stop_signals():
            assert signal.getsignal(number) is not own
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


def test_stopping_says_where() -> None:
    error = StoppedError(15, "gated", 1234)
    assert str(error) == "stopped in the gated net after step 1,234"
    assert error.exit_code == 143
