"""The gate state of a `Pruner` as a torch module, and the gate state of a warm start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from l0gate._errors import check
from l0gate._hard_concrete import JITTER, HardConcrete

_CONTROLLER = ("multipliers", "progress", "forced")
WORD = 2**64  # every seed is below this
_WARM = 0.95  # the probability that a gate sampled at a warm start is exactly 1


class GateState(nn.Module):
    """The gate state of a `Pruner` as parameters (log_alpha) and buffers (the rest).

    `.half()`, `.double()` and `.to(dtype)` do not change its dtype, since gates and penalty need at
    least float32; `.to(device)` moves it. `state_dict` also holds the generator of the noise:
    its seed and its counter.
    """

    progress: Tensor

    def __init__(self, state: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.axes = tuple(state["log_alpha"])
        for axis in self.axes:
            # The prefix avoids a clash of axis names with attributes of `nn.Module`.
            self.register_parameter(f"log_alpha_{axis}", nn.Parameter(state["log_alpha"][axis]))
            self.register_buffer(f"mask_{axis}", state["mask"][axis])
        for name in _CONTROLLER:
            self.register_buffer(name, state[name])
        self.rng = (int(seed), 0)

    def log_alpha(self) -> dict[str, nn.Parameter]:
        return {axis: self.get_parameter(f"log_alpha_{axis}") for axis in self.axes}

    def read(self) -> dict[str, Any]:
        """The gate state in the form that `Pruner` takes."""
        return {
            "log_alpha": self.log_alpha(),
            "mask": {axis: self.get_buffer(f"mask_{axis}") for axis in self.axes},
            # Copies: `write` changes the buffers, and the graph of a penalty may still use them.
            **{name: self.get_buffer(name).clone() for name in _CONTROLLER},
        }

    @torch.no_grad()
    def write(self, state: Mapping[str, Any]) -> None:
        """Copy a gate state, in the form that `Pruner` takes, into the parameters and buffers."""
        for axis, values in self.log_alpha().items():
            values.copy_(state["log_alpha"][axis])
            self.get_buffer(f"mask_{axis}").copy_(state["mask"][axis])
        for name in _CONTROLLER:
            self.get_buffer(name).copy_(state[name])

    def get_extra_state(self) -> Tensor:
        seed, drawn = self.rng
        signed = seed - WORD if 2 * seed >= WORD else seed
        return torch.tensor((signed, drawn), dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        seed, drawn = state.tolist()
        self.rng = (seed % WORD, drawn)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GateState:
        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return new.to(tensor.dtype) if tensor.is_meta else tensor.to(new.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def warm(state: dict[str, Any], gates: HardConcrete) -> dict[str, Any]:
    """`state` with log_alpha raised: gates are mostly 1 when sampled, and all 1 at test time."""
    full = gates.initial_log_alpha(1.0)
    room = gates.highest - JITTER
    check(
        room > full,
        f"`warm_start` needs gates that can be 1: `highest` is {gates.highest}; it must be above"
        f" {full + JITTER:.3f}",
    )
    # A gate is 1 if its concrete variable is at least s, where s (zeta - gamma) + gamma = 1.
    # P(gate = 1) = sigmoid(log_alpha - beta logit(s)), and s / (1 - s) is the ratio below.
    logit_s = math.log((1.0 - gates.gamma) / (gates.zeta - 1.0))
    mostly = gates.beta * logit_s + math.log(_WARM / (1.0 - _WARM))
    shift = min(max(mostly, full), room) - gates.initial_log_alpha(gates.initial)
    log_alpha = {axis: gates.clamp(values + shift) for axis, values in state["log_alpha"].items()}
    return {**state, "log_alpha": log_alpha}
