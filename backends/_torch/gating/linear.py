"""Gates on the input of a linear layer instead of its weight, where the input is smaller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from l0gate._backend import Backend
from l0gate.layout.fold import spread
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Pattern


class GatedWeight(Tensor):
    """The product weight * gates, of shapes (O, I) and (I,), computed only where it is needed.

    `linear` gives the same with the gates on its input, and then needs no copy of the weight.
    """

    weight: Tensor
    gates: Tensor
    written: Tensor | None

    @staticmethod
    def __new__(cls, weight: Tensor, gates: Tensor) -> GatedWeight:
        # The tensor itself is empty: every use of it goes through `__torch_function__`.
        made: GatedWeight = torch.Tensor._make_subclass(cls, torch.empty(0))
        made.weight, made.gates, made.written = weight, gates, None
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.linear:
            args, kwargs = _at_input(*args, **kwargs), {}
        args, kwargs = (_written(value) for value in (args, kwargs))
        return func(*args, **kwargs)

    def product(self) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            if self.written is None:
                self.written = self.weight * self.gates
            return self.written


def _at_input(input: Any, weight: Any, bias: Any = None) -> tuple[Any, ...]:
    """The arguments of `linear`, with the gates on the input where that is smaller than the weight.

    The factor that is gated is copied, and autograd keeps the copy.
    """
    if isinstance(weight, GatedWeight):
        input = _written(input)
        if input.numel() < weight.weight.numel():
            return input * weight.gates, weight.weight, bias
    return input, weight, bias


def _written(value: Any) -> Any:
    """The value with the product in place of every gated weight in it."""
    if isinstance(value, GatedWeight):
        return value.product()
    if isinstance(value, (tuple, list)):
        return type(value)(map(_written, value))
    if isinstance(value, dict):
        return {key: _written(entry) for key, entry in value.items()}
    return value


def gate_inputs(
    model: nn.Module,
    layout: Layout,
    tensors: Mapping[str, Tensor],
    gates: Mapping[str, Tensor],
    backend: Backend,
) -> dict[str, Tensor]:
    """The gated weights, by name, of `nn.Linear` layers that read gated neurons.

    Subclasses are left out, since they may use the weight otherwise, and so are weights that read
    neurons in both dimensions.
    """
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        pattern = layout.patterns.get(name)
        if type(module) is nn.Linear and isinstance(pattern, Pattern):
            out, read = pattern.dimensions
            if read.reads and read.axes and not (out.reads and out.axes):
                along = spread(read, gates, backend)
                found[name] = GatedWeight(tensors[name], along.to(tensors[name].dtype))
    return found
