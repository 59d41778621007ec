"""l0gate: learned binary gates that make LSTMs and GRUs smaller, with the same outputs."""

from __future__ import annotations

from l0gate._archive import load, save
from l0gate._budget import Budget
from l0gate._errors import L0GateError
from l0gate._gate import gate
from l0gate._hard_concrete import HardConcrete
from l0gate._layout import Layout
from l0gate._plugins import get_backend, hookimpl
from l0gate._pruner import Pruner
from l0gate._report import report
from l0gate._tensor import Backend

__all__ = [
    "Backend",
    "Budget",
    "HardConcrete",
    "L0GateError",
    "Layout",
    "Pruner",
    "gate",
    "get_backend",
    "hookimpl",
    "load",
    "report",
    "save",
]
__version__ = "0.1.0"
