"""Hooks that let a small module take states and inputs of the dense size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0gate.backends._torch.pytree import data_of, with_data

#: For every layer and direction, the sorted indices of the neurons kept, and the dense size.
KeptPerLayer = Sequence[tuple[np.ndarray, int]]


class ReduceStates:
    """Reduces states of the dense module's size to the neurons that were kept.

    As a forward pre-hook it lets a pruned `nn.LSTM`, `nn.GRU`, `nn.RNN` or cell be called with the
    initial states of the dense one. `kept` is one list for h, and for an LSTM a second one for c.
    """

    def __init__(self, *kept: KeptPerLayer) -> None:
        self.kept = [[(np.asarray(i, np.int64), int(dense)) for i, dense in own] for own in kept]

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs is None:  # `quantize_dynamic` moves hooks without this option
            return self(module, args, {})[0]
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        if hx is None:
            return args, kwargs
        if isinstance(module, nn.RNNCellBase):
            hx = self._of_cell(module, hx)
        else:
            c = [module.hidden_size] * len(self.kept[0])
            proj_size = getattr(module, "proj_size", 0)  # quantized modules have none
            h = [proj_size] * len(c) if proj_size else c
            states = self.states(hx, module.mode, (h, c))
            parts = states if module.mode == "LSTM" else (states,)
            stacked = [part if isinstance(part, Tensor) else torch.stack(part) for part in parts]
            hx = tuple(stacked) if module.mode == "LSTM" else stacked[0]
        if len(args) > 1:
            return (args[0], hx, *args[2:]), kwargs
        return args, {**kwargs, "hx": hx}

    def _of_cell(self, cell: Any, hx: Any) -> Any:
        size = [cell.hidden_size]
        parts = hx if isinstance(hx, (tuple, list)) else (hx,)
        pairs = zip(parts, self.kept, strict=False)
        reduced = [self._reduce([part], own, size)[0] for part, own in pairs]
        return tuple(reduced) if isinstance(hx, (tuple, list)) else reduced[0]

    def states(self, hx: Any, mode: str, sizes: Sequence[Sequence[int]]) -> Any:
        """`hx`, with states of the dense size reduced; other states are not changed.

        `hx` is h, or (h, c) where `mode` is "LSTM". `sizes` are the small sizes of h and of c, for
        every layer and direction.
        """
        if mode == "LSTM":
            kinds = zip(hx, self.kept, sizes, strict=False)
            return tuple(self._reduce(part, kept, own) for part, kept, own in kinds)
        return self._reduce(hx, self.kept[0], sizes[0])

    @staticmethod
    def _reduce(part: Any, kept: KeptPerLayer, sizes: Sequence[int]) -> Any:
        if len(part) != len(kept):
            return part  # the module itself raises an error that says what it expects
        if isinstance(part, Tensor) and set(sizes) == {part.shape[-1]}:
            return part
        reduced = list(part)
        for i, (index, dense) in enumerate(kept):
            if part[i].shape[-1] == dense != sizes[i]:
                reduced[i] = part[i].index_select(-1, torch.as_tensor(index, device=part[i].device))
        unchanged = all(new is old for new, old in zip(reduced, part, strict=True))
        return part if unchanged else tuple(reduced)


class ReduceInput:
    """A forward pre-hook that selects, from inputs of the dense size, the features that were kept.

    The features run along dimension `dim` of the input, which is negative. `index` holds those
    still read, `dense` is their number in the dense model.
    """

    def __init__(self, index: np.ndarray, dense: int, dim: int = -1) -> None:
        self.index, self.dense, self.dim = np.asarray(index, np.int64), int(dense), dim

    def __call__(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        data = data_of(args[0])
        if data.shape[self.dim] != self.dense:
            return args
        index = torch.as_tensor(self.index, device=data.device)
        return (with_data(args[0], data.index_select(self.dim, index)), *args[1:])
