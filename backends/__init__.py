"""The backends that come with l0gate: NumPy, and PyTorch where it is installed.

In reading order:

- `_builtin`: registers both, through the hook that plugins use
- `_numpy`: the NumPy backend
- `_torch`: the PyTorch backend, a package

Users import three classes of PyTorch modules from here:

    from l0gate.backends import GatedModule, PrunableLayerNorm, RaggedRNN

`GatedModule` is what `l0gate.gate` returns, `RaggedRNN` what a recurrent module becomes when its
layers keep unequal numbers of neurons. `PrunableLayerNorm` takes the place of a LayerNorm over
neurons that are to be pruned. Torch is imported on first access to one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from l0gate._later import import_later

if TYPE_CHECKING:
    from l0gate.backends._torch.gating.module import GatedModule
    from l0gate.backends._torch.prunable_norm import PrunableLayerNorm
    from l0gate.backends._torch.shrinking.ragged import RaggedRNN

__all__ = ["GatedModule", "PrunableLayerNorm", "RaggedRNN"]
__getattr__, __dir__ = import_later(
    __name__,
    __all__,
    {
        "GatedModule": "_torch.gating.module",
        "PrunableLayerNorm": "_torch.prunable_norm",
        "RaggedRNN": "_torch.shrinking.ragged",
    },
)
