"""The guard of speeds beside other runtimes."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_guard_measures_again_before_it_fails(load: Any) -> None:
    guard = load("guard")
    tries = iter([1.0, 1.0, 2.5])
    measures = {"slow": lambda: 1.0, "noisy": lambda: next(tries), "fine": lambda: 2.9}
    table, failed = guard.guard(measures, dict.fromkeys(measures, 3.0))
    assert failed == ["slow"]
    assert [row[1] for row in table.rows] == [1.0, 2.5, 2.9]
    with pytest.raises(SystemExit, match="no ratio for 'new'"):
        guard.guard({"new": lambda: 1.0}, {})
