"""Tensors without a label: those that are constant along a dimension, and where others come from.

A tensor that is constant along the neurons' dimension may meet neurons in any operation, such as
the zeros that a model starts its loop with. It is the code that makes it constant that counts, not
its values: an input that happens to hold zeros is not constant. Other tensors may come from a
parameter or from a tensor that the model holds, such as a learned initial state that is expanded.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from l0gate.backends._torch.pytree import tensors
from l0gate.backends._torch.tracing.sizes import Size

#: Functions that make a tensor of one value, or give this value to one.
_MADE = {"zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones"}
_MADE |= {"new_full", "fill", "zero"}
#: Functions that work along other dimensions than the last, or move, copy, add or repeat those.
_MOVED = {"clone", "contiguous", "detach", "expand", "expand_as", "getitem", "index_select"}
_MOVED |= {"narrow", "repeat", "select", "squeeze", "to", "type", "type_as", "unbind", "unsqueeze"}
_MOVED |= {"data.get"}
#: The same for tensors of one value only, which have it in every position of the result.
_SPREAD = _MOVED | {"chunk", "flatten", "flip", "movedim", "permute", "reshape", "roll", "split"}
_SPREAD |= {"swapaxes", "t", "T.get", "mT.get", "tensor_split", "tile", "transpose", "unflatten"}
_SPREAD |= {"view"}


class Unlabelled:
    """What is known of the tensors without a label, in one run of a model."""

    def __init__(self, elementwise: frozenset[str]) -> None:
        self.elementwise = elementwise
        # By id: the tensor, its version, and the dimensions (negative) along which it is constant.
        self.constants: dict[int, tuple[Tensor, int, frozenset[int]]] = {}
        self.sizes: dict[int, tuple[Tensor, tuple[Size, ...]]] = {}
        self.sources: dict[int, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def constant_dims(self, tensor: Tensor) -> frozenset[int]:
        """The dimensions (negative) along which the code makes a tensor constant.

        Their size may be 1, they may be expanded (stride 0), or the tensor made of one value.
        """
        strided = tensor.layout == torch.strided
        found = frozenset(
            d for d in _every(tensor) if tensor.shape[d] == 1 or (strided and tensor.stride(d) == 0)
        )
        known = self.constants.get(id(tensor))
        return found if known is None or known[1] != _version(tensor) else found | known[2]

    def sources_of(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The tensors whose last dimension lies position by position in that of `tensor`.

        These are the tensor itself and what it was computed from.
        """
        return (tensor, *self.sources.get(id(tensor), (tensor, ()))[1])

    def follow(
        self,
        name: str,
        given: Sequence[Tensor],
        out: Any,
        constants: Mapping[int, frozenset[int]],
        known: Container[int],
    ) -> None:
        """Note what a call without labelled arguments returned.

        `constants` are the `constant_dims` of the arguments before the call, by id. `known` are the
        ids of the tensors that may be sources: parameters, and what the model holds.
        """
        outs = list(tensors(out))
        everywhere = [constants[id(t)] >= _every(t) for t in given]
        if name in _MADE:
            for made in outs:
                self._note(made, _every(made))
        elif name in self.elementwise:
            for made in outs:
                self._note(made, _elementwise(made, given, constants))
        elif given and name in _SPREAD and everywhere[0]:
            for made in outs:
                self._note(made, _every(made))
        elif given and name in ("cat", "concat", "stack") and all(everywhere):
            for made in outs:
                self._note(made, frozenset({-1}) if made.dim() > 1 else frozenset())
        if name in _MOVED or name in self.elementwise:
            for made in outs:
                self._trace_back(given[:1] if name in _MOVED else given, made, known)

    def sizes_of(self, tensor: Tensor) -> tuple[Size, ...]:
        """The attributes of the model that sizes of the tensor were made of."""
        return self.sizes[id(tensor)][1] if id(tensor) in self.sizes else ()

    def note_sizes(self, given: Sequence[Tensor], out: Any, sizes: Sequence[Size]) -> None:
        found = (*sizes, *(size for t in given for size in self.sizes_of(t)))
        if found:
            for made in tensors(out):
                self.sizes[id(made)] = (made, found)

    def _note(self, tensor: Tensor, dims: frozenset[int]) -> None:
        if dims:
            self.constants[id(tensor)] = (tensor, _version(tensor), dims)
        else:
            self.constants.pop(id(tensor), None)

    def _trace_back(self, given: Sequence[Tensor], made: Tensor, known: Container[int]) -> None:
        found: list[Tensor] = []
        for tensor in given:
            if tensor.dim() == 0 or not made.dim() or tensor.shape[-1] != made.shape[-1]:
                continue
            found += [t for t in self.sources_of(tensor) if id(t) in known]
        if found:
            self.sources[id(made)] = (made, tuple(found))


def _every(tensor: Tensor) -> frozenset[int]:
    return frozenset(range(-tensor.dim(), 0))


def _elementwise(
    made: Tensor, given: Sequence[Tensor], constants: Mapping[int, frozenset[int]]
) -> frozenset[int]:
    """The dimensions along which every argument of an elementwise function is constant."""
    return frozenset(
        d for d in _every(made) if all(t.dim() < -d or d in constants[id(t)] for t in given)
    )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
