"""The outcome of one check, and outcomes as text."""

from __future__ import annotations

from typing import Any

import pytest

import l0gate
import l0gate.testing
from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    Outcome,
    run_check,
)
from l0gate.testing._outcome import table


def test_an_outcome_keeps_the_error() -> None:
    class Explodes(NumpyBackend):
        def take(self, x: Any, index: Any, axis: int) -> Any:
            raise KeyError("axis")

    outcome = run_check(l0gate.testing.check_take, Explodes())
    assert outcome.reason == "KeyError: 'axis'"
    promise = l0gate.testing.check_take.__doc__.partition("\n")[0]  # type: ignore[union-attr]
    assert (outcome.name, outcome.promise, outcome.result) == ("check_take", promise, "failed")
    assert isinstance(outcome.error, KeyError)
    assert outcome.traceback().endswith("KeyError: 'axis'\n")
    assert "in take" in outcome.traceback()
    with pytest.raises(AssertionError, match="KeyError: 'axis'") as raised:
        outcome.raise_if_failed()
    assert raised.value.__cause__ is outcome.error
    passed = run_check(l0gate.testing.check_take, NumpyBackend())
    assert passed.error is None
    assert passed.traceback() == ""
    passed.raise_if_failed()


def test_the_table_of_the_module() -> None:
    outcomes = [
        Outcome("check_short", "It is.", "passed"),
        Outcome("check_longer", "It does.", "failed", "one line\nand another"),
        Outcome("check_none", "It can.", "not claimed"),
    ]
    assert table(outcomes).splitlines() == [
        "check_short   passed       It is.",
        "check_longer  failed       It does.",
        "              one line",
        "              and another",
        "check_none    not claimed  It can.",
        "1 passed, 1 failed, 1 not claimed",
    ]
