"""`PrunableLayerNorm`: a LayerNorm whose neurons can be removed without an error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from l0gate._errors import check


def prunable_layer_norm(
    x: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None, dense: int, eps: float
) -> Tensor:
    """A layer norm over `dense` neurons of which x (..., n) holds n; all others are 0.

    x is multiplied by `scale` (1, n) first. With m = sum(x) / dense, the variance is the sum of
    (x - m)² over the neurons in x, and of m² over the others, divided by dense.
    """
    if not torch.compiler.is_compiling() and has_torch_function_unary(x):
        given = (x, scale, weight, bias, dense, eps)
        out: Tensor = handle_torch_function(prunable_layer_norm, (x,), *given)
        return out
    x = x * scale[0]
    mean = x.sum(-1, keepdim=True) / dense
    centered = x - mean
    missing = (dense - x.shape[-1]) * mean.square()
    variance = (centered.square().sum(-1, keepdim=True) + missing) / dense
    y = centered * torch.rsqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class PrunableLayerNorm(nn.LayerNorm):
    """A LayerNorm over the last dimension that stays exact when neurons are removed.

    Import it with `from l0gate.backends import PrunableLayerNorm`, and put it in the place of
    `nn.LayerNorm` before you call `l0gate.gate`. It computes what `nn.LayerNorm` does. Once it is
    small, the removed neurons still count as zeros in its mean and variance. The buffer `scale`,
    (1, n) ones, is where the gates are folded in.

    >>> from l0gate.backends import PrunableLayerNorm
    >>> norm, stock, x = PrunableLayerNorm(6), nn.LayerNorm(6), torch.randn(4, 6)
    >>> torch.allclose(norm(x), stock(x), atol=1e-6)
    True
    >>> model = PrunableLayerNorm.replace_all(nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6)))
    >>> type(model[1]).__name__
    'PrunableLayerNorm'
    """

    scale: Tensor

    def __init__(self, normalized_shape: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(normalized_shape, *args, **kwargs)
        check(
            len(self.normalized_shape) == 1,
            f"`normalized_shape` is {tuple(self.normalized_shape)}; it must be one number, the size"
            " of the last dimension",
        )
        self.dense_size = self.normalized_shape[0]
        like = torch.empty(0) if self.weight is None else self.weight.detach()
        self.register_buffer("scale", like.new_ones(1, self.dense_size))

    @classmethod
    def replace_all(cls, model: nn.Module) -> nn.Module:
        """Put a `PrunableLayerNorm` in place of every `nn.LayerNorm` over one dimension.

        The parameters are shared. `model` is changed and returned.
        """
        for module in list(model.modules()):
            for key, child in list(module._modules.items()):
                if type(child) is nn.LayerNorm and len(child.normalized_shape) == 1:
                    made = cls(child.normalized_shape, child.eps, child.elementwise_affine)
                    for name in ("weight", "bias"):
                        setattr(made, name, getattr(child, name))
                    if child.weight is not None:
                        made.scale = made.scale.to(child.weight.detach())
                    setattr(module, key, made.train(child.training))
        return model

    def forward(self, input: Tensor) -> Tensor:
        return prunable_layer_norm(
            input, self.scale, self.weight, self.bias, self.dense_size, self.eps
        )
