"""Multiplies gates into the input of a linear layer if that is smaller than its weight."""

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
    """Stands for weight * gates, of shapes (O, I) and (I,); computed only when it is needed.

    `F.linear` multiplies the gates into its input instead if that is smaller than the weight. The
    result is the same, and no gated copy of the weight is stored.
    """

    weight: Tensor
    gates: Tensor
    computed: Tensor | None  # the product, once it was needed

    @staticmethod
    def __new__(cls, weight: Tensor, gates: Tensor) -> GatedWeight:
        # The tensor itself is empty: every use of it goes through `__torch_function__`.
        made: GatedWeight = torch.Tensor._make_subclass(cls, torch.empty(0))
        made.weight, made.gates, made.computed = weight, gates, None
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.linear:
            args, kwargs = _at_input(*args, **kwargs), {}
        args, kwargs = (_with_products(value) for value in (args, kwargs))
        return func(*args, **kwargs)

    def product(self) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            if self.computed is None:
                self.computed = self.weight * self.gates
            return self.computed


def _at_input(input: Any, weight: Any, bias: Any = None) -> tuple[Any, ...]:
    """The arguments of `F.linear`, with gates multiplied into the input or the weight.

    The smaller of the two is chosen, because autograd stores a gated copy of it.
    """
    if isinstance(weight, GatedWeight):
        input = _with_products(input)
        if input.numel() < weight.weight.numel():
            return input * weight.gates, weight.weight, bias
    return input, weight, bias


def _with_products(value: Any) -> Any:
    """`value`, with every `GatedWeight` in it replaced by its product."""
    if isinstance(value, GatedWeight):
        return value.product()
    if isinstance(value, (tuple, list)):
        return type(value)(map(_with_products, value))
    if isinstance(value, dict):
        return {key: _with_products(entry) for key, entry in value.items()}
    return value


def gate_inputs(
    model: nn.Module,
    layout: Layout,
    tensors: Mapping[str, Tensor],
    gates: Mapping[str, Tensor],
    backend: Backend,
) -> dict[str, Tensor]:
    """A `GatedWeight`, by parameter name, for every `nn.Linear` layer that reads gated neurons.

    Subclasses of `nn.Linear` are left out, since they may use the weight in other ways. So are
    weights that read gated neurons along both dimensions.
    """
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        pattern = layout.patterns.get(name)
        if type(module) is nn.Linear and isinstance(pattern, Pattern):
            out, read = pattern.dimensions
            if read.reads and read.axes and not (out.reads and out.axes):
                factors = spread(read, gates, backend)
                found[name] = GatedWeight(tensors[name], factors.to(tensors[name].dtype))
    return found
