"""The built-in backends, registered like any plugin's.

This is not in the package itself because pluggy reads every attribute of a plugin, and some of the
package's import torch.
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
