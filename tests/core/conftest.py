"""Registries of their own, and entry points that plugins give."""

from __future__ import annotations

import sys
import types

import pytest
from registry_cases import FRAMEWORK, Point, descriptor, plugin

from l0gate._registry import Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of its own, whose entry points are none."""
    monkeypatch.setattr("l0gate._registry.entry_points", lambda group: [])
    monkeypatch.setitem(sys.modules, FRAMEWORK, types.ModuleType(FRAMEWORK))
    return Registry()


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    found = [
        Point("first", plugin(descriptor("one"))),
        Point("broken", ImportError("no such framework")),
        Point("second", plugin(descriptor("one"), descriptor("two"))),
    ]
    monkeypatch.setattr("l0gate._registry.entry_points", lambda group: found)
    return found
