"""The hooks that plugins implement."""

from __future__ import annotations

from pluggy import PluginManager

import l0gate
from l0gate._hooks import PROJECT, Hooks, hookimpl


def test_a_plugin_is_called_through_its_hooks() -> None:
    class Plugin:
        @hookimpl
        def l0gate_backends(self) -> list[dict[str, str]]:
            return [{"name": "box"}]

    manager = PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(Plugin())
    manager.check_pending()
    assert manager.hook.l0gate_backends() == [[{"name": "box"}]]
    assert manager.hook.l0gate_methods() == []


def test_every_hook_says_what_to_return() -> None:
    for name, hook in vars(Hooks).items():
        if name.startswith("l0gate_"):
            assert "escriptors" in (hook.__doc__ or ""), name
    assert l0gate.hookimpl is hookimpl
