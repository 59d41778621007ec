"""Limits and tables."""

from __future__ import annotations

import math
from typing import Any


def test_what_was_not_measured_does_not_hold(load: Any) -> None:
    tables = load("_tables")
    assert tables.Limit("", 1.0, at_least=1.0).holds == "yes"
    assert tables.Limit("", 0.9, at_least=1.0).holds == "no"
    assert tables.Limit("", 1.4, at_most=1.3).holds == "no"
    assert tables.Limit("", math.nan, at_most=1.3).holds == "not measured"
    assert not tables.Limit("", math.nan, at_most=1.3).met
