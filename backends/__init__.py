"""The backends that come with l0gate, registered like any plugin's; none is imported here."""

from __future__ import annotations

from typing import Any

from l0gate._hooks import hookimpl


@hookimpl
def l0gate_backends() -> list[dict[str, Any]]:
    """Descriptors of the built-in backends."""
    return [
        {"name": "numpy", "module": "numpy", "factory": "l0gate.backends._numpy:NumpyBackend"},
        {
            "name": "torch",
            "module": "torch",
            "factory": "l0gate.backends._torch:TorchBackend",
        },
    ]
