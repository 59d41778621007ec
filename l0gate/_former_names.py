"""Modules under the names that they had in l0gate 0.1.0, so that its pickles can still be loaded.

A pickle names the module of every class in it. `install` adds an import hook at the end of
`sys.meta_path` that serves only these names, so files of the same name take precedence.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_TORCH = "l0gate.backends._torch"
# Module name in 0.1.0 -> the modules that hold its contents now.
_FORMER: dict[str, tuple[str, ...]] = {
    "l0gate._archive": ("l0gate._saved_model",),
    "l0gate._cost": ("l0gate.layout.cost",),
    "l0gate._layout": ("l0gate.layout.layout",),
    "l0gate._notation": ("l0gate.layout.notation",),
    "l0gate._report": ("l0gate.reports.report", "l0gate.reports.data"),
    "l0gate.backends._torch_distill": (f"{_TORCH}.gating.distill",),
    "l0gate.backends._torch_examples": (f"{_TORCH}.examples",),
    "l0gate.backends._torch_gate_state": (f"{_TORCH}.gating.state",),
    "l0gate.backends._torch_gated": (f"{_TORCH}.gating.module",),
    "l0gate.backends._torch_linear": (f"{_TORCH}.gating.linear",),
    "l0gate.backends._torch_net": (f"{_TORCH}.net",),
    "l0gate.backends._torch_ragged": (
        f"{_TORCH}.shrinking.ragged",
        f"{_TORCH}.shrinking.dense_adapters",
    ),
    "l0gate.backends._torch_small": (f"{_TORCH}.shrinking.resize",),
    "l0gate.reference._cells": (
        "l0gate.reference._lstm",
        "l0gate.reference._gru",
        "l0gate.reference._scan",
    ),
    "l0gate.reference._stream": ("l0gate.reference.runtime.stream",),
    "l0gate.reference._streaming": ("l0gate.reference.runtime.bound_net",),
}


class _Finder:
    """Imports a former name as a module that looks up its attributes in the present modules."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _FORMER:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, _Loader())  # type: ignore[arg-type]


class _Loader:
    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        def attribute(name: str) -> Any:
            for present in map(import_module, _FORMER[module.__name__]):
                if hasattr(present, name):
                    return getattr(present, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__dict__["__getattr__"] = attribute


def install() -> None:
    """Add the hook that imports modules by their former names, unless it is there already."""
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.append(_Finder)
