"""Weights that are computed in every call, as by weight_norm, and how to make them parameters."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_REMOVE = {WeightNorm: "remove_weight_norm", SpectralNorm: "remove_spectral_norm"}
_RAW = "_raw"  # the ending that AWD's weight drop gives to the parameter it drops weights of


def way_round(path: str, module: nn.Module) -> str:
    """What to call so that the computed weights of a module become parameters; "" if unknown.

    >>> way_round("out", nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    "torch.nn.utils.parametrize.remove_parametrizations(model.out, 'weight')"
    """
    own = f"model.{path}" if path else "model"
    calls = []
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        calls += [
            f"torch.nn.utils.parametrize.remove_parametrizations({own}, {name!r})"
            for name in module.parametrizations
        ]
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            calls.append(f"torch.nn.utils.{_REMOVE[type(hook)]}({own}, {hook.name!r})")
    for name, _ in module.named_parameters():
        if name.endswith(_RAW) and hasattr(module, name.removesuffix(_RAW)):
            plain = name.removesuffix(_RAW)
            calls.append(
                f"{own}.__dict__.pop({plain!r}, None); "
                f"{own}.register_parameter({plain!r}, {own}._parameters.pop({name!r}))"
            )
    return "; ".join(calls)


def advice(path: str, module: nn.Module) -> str:
    """The way round as the end of a message; "" if none is known."""
    calls = way_round(path, module)
    return f"; make a parameter of it first: `{calls}`" if calls else ""
