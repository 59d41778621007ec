"""The backends that come with l0gate: NumPy, and PyTorch where it is installed.

In reading order:

- `_builtin`: registers both, through the hook that plugins use
- `_numpy`: the NumPy backend
- `_torch`: the PyTorch backend, a package

Users import two classes of PyTorch modules from here:

    from l0gate.backends import GatedModule, RaggedRNN

`GatedModule` is what `l0gate.gate` returns, `RaggedRNN` what a recurrent module becomes when its
layers keep unequal numbers of neurons. Torch is imported on first access to one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l0gate.backends._torch.gating.module import GatedModule
    from l0gate.backends._torch.shrinking.ragged import RaggedRNN

__all__ = ["GatedModule", "RaggedRNN"]
_LATER = {
    "GatedModule": "l0gate.backends._torch.gating.module",
    "RaggedRNN": "l0gate.backends._torch.shrinking.ragged",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
