"""The built-in backends, registered like any plugin's.

This module is the plugin, not the package `l0gate.backends`: pluggy reads every attribute of a
plugin, and reading `GatedModule` or `RaggedRNN` from the package imports torch.
"""

from __future__ import annotations

from typing import Any

from l0gate._hooks import hookimpl


@hookimpl
def l0gate_backends() -> list[dict[str, Any]]:
    """Descriptors of the built-in backends."""
    return [
        {"name": "numpy", "module": "numpy", "factory": "l0gate.backends._numpy:NumpyBackend"},
        {"name": "torch", "module": "torch", "factory": "l0gate.backends._torch:TorchBackend"},
    ]
