"""`OneStack`, the base of formats of one stack of recurrent layers and a linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from l0gate.formats.format import Format, refuse
from l0gate.formats.layers import Layer, Linear, Recurrent, recurrent_layers

__all__ = ["OneStack"]


class OneStack(Format):
    """Layers of one cell, one hidden size and one direction, then a linear layer.

    Subclasses set how messages name the format (`title`), what it holds (`body`) and the way round
    (`instead`), and say in `check_cell` which cells it has.
    """

    title: ClassVar[str]
    body: ClassVar[str]
    instead: ClassVar[str]
    holds: ClassVar[Mapping[str, Any]] = {
        "cells": "LSTM",
        "unequal": False,
        "bidirectional": False,
        "embedding": False,
    }

    def accepted_sizes(self, hidden: Sequence[int], **options: Any) -> list[int]:
        return [max(hidden)] * len(hidden)

    def check_cell(self, layer: Recurrent, first: Recurrent) -> None:
        """Refuse a cell or functions that the format lacks; `first` is the first of the stack."""
        raise NotImplementedError

    def stack_of(self, layers: Sequence[Layer]) -> tuple[list[Recurrent], Linear]:
        """The recurrent layers and the linear one. Raises `L0GateError` for any other net."""
        stack, last = recurrent_layers(layers), layers[-1]
        if not stack or not isinstance(last, Linear):
            raise refuse(last, self.title, self.body, self.instead)
        for layer in layers[:-1]:
            if not isinstance(layer, Recurrent):
                raise refuse(layer, self.title, "has no place for it", self.instead)
        for layer in stack:
            self.check_cell(layer, stack[0])
            if len(layer.directions) == 2:
                raise refuse(layer, self.title, "has layers of one direction only", self.instead)
            if layer.outputs != stack[0].outputs:
                raise refuse(
                    layer,
                    self.title,
                    f"has one hidden size for all layers, and the first has {stack[0].outputs}",
                    'give `pad_to="target"`, which adds closed neurons: the outputs stay the same',
                )
        return stack, last
