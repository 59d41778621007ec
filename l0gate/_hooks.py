"""The hooks that plugins implement, and the decorators `hookspec` and `hookimpl`."""

from __future__ import annotations

from typing import Any

import pluggy

PROJECT = "l0gate"  # the name by which pluggy tells these hooks from those of other projects
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    @hookspec
    def l0gate_backends(self) -> list[dict[str, Any]]:  # type: ignore[empty-body]
        """Descriptors of backends: dicts with `name`, `module`, `factory` and, if it was written
        for another version of the interface, `interface`."""

    @hookspec
    def l0gate_methods(self) -> list[dict[str, Any]]:  # type: ignore[empty-body]
        """Descriptors of methods that choose neurons: dicts with `name` and `factory`."""

    @hookspec
    def l0gate_formats(self) -> list[dict[str, Any]]:  # type: ignore[empty-body]
        """Descriptors of file formats: dicts with `name` and `factory`, which returns a
        `l0gate.formats.Format`."""
