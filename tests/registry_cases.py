"""Plugins, entry points and backends for tests of the registry."""

from __future__ import annotations

import types
from typing import Any

import l0gate
from l0gate import Backend

FRAMEWORK = __name__  # the module that backends of boxes say they need, which is loaded


class Box:
    """An array type that no built-in backend owns."""


class BoxBackend(Backend):
    name = "box"
    array_type = Box


def plugin(*descriptors: Any, hook: str = "l0gate_backends") -> types.ModuleType:
    module = types.ModuleType("plugin")

    @l0gate.hookimpl
    def implementation() -> Any:
        return list(descriptors)

    setattr(module, hook, implementation)
    return module


def descriptor(name: str = "box", **changes: Any) -> dict[str, Any]:
    factory = type("NamedBackend", (BoxBackend,), {"name": name})
    return {"name": name, "module": FRAMEWORK, "factory": factory, **changes}


class Point:
    """An entry point that loads a plugin, or raises."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self.loaded = name, loaded
        self.dist = types.SimpleNamespace(name=f"{name}-dist")

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded
