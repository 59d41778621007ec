"""l0gate: learned binary gates that make LSTMs and GRUs smaller, with the same outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l0gate import _former_names
from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError
from l0gate._gate import gate
from l0gate._hard_concrete import HardConcrete
from l0gate._pruner import Pruner
from l0gate._registry import get_backend
from l0gate._saved_model import load, save
from l0gate.layout.layout import Layout

if TYPE_CHECKING:
    from l0gate._hooks import hookimpl
    from l0gate.reports.report import report

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
_former_names.install()
_LATER = {"hookimpl": "_hooks", "report": "reports.report"}  # what most programs need not load


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
