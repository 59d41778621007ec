"""Distillation without labels: the teacher is a copy of the model from before gating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l0gate._errors import L0GateError
from l0gate.backends._torch.isolation import copied
from l0gate.backends._torch.pytree import storage_of, tensors

_CONSTANT = 1e-6  # an output is constant if variance / mean square is at most this


class Teacher:
    """A frozen copy of a model, always in eval mode, and the loss of another model against it.

    It is not an `nn.Module`, so that a module that holds one neither trains nor saves it.
    """

    def __init__(self, model: nn.Module, *, logits: bool = False) -> None:
        self.model = copied(model).eval().requires_grad_(False)
        self.logits = logits

    def apply(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply `change` to every tensor, as `nn.Module._apply` does to move a module."""
        self.model._apply(change)  # type: ignore[no-untyped-call]

    def loss(self, outputs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The loss of `outputs` against the teacher's on the same inputs: a scalar, 0 if equal.

        `GatedModule.distill` says how it is computed.
        """
        wanted, states = run(self.model, lambda: self.model(*args, **kwargs))
        return difference(outputs, wanted, states, logits=self.logits)


def run(model: nn.Module, call: Callable[[], Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The floating point outputs of `call`, which runs the model, and the recurrent states."""
    states: list[Tensor] = []  # kept alive, so that no output can reuse their memory

    def note(module: nn.Module, given: Any, out: Any) -> None:
        states.extend(tensors(out[1]))

    recurrent = [part for part in model.modules() if isinstance(part, nn.RNNBase)]
    handles = [part.register_forward_hook(note) for part in recurrent]
    try:
        with torch.no_grad():
            out = call()
    finally:
        for handle in handles:
            handle.remove()
    return [tensor for tensor in tensors(out) if tensor.is_floating_point()], states


def difference(outputs: Any, wanted: list[Tensor], states: list[Tensor], *, logits: bool) -> Tensor:
    """The loss of `outputs` against what `run` returned for a teacher: a scalar, 0 if equal."""
    found = [tensor for tensor in tensors(outputs) if tensor.is_floating_point()]
    if not wanted:
        raise L0GateError("`distill` compares floating point outputs; the model returns none")
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in wanted]:
        raise L0GateError(
            f"`outputs` have the shapes {[tuple(t.shape) for t in found]}; on these inputs the"
            f" teacher returns {[tuple(t.shape) for t in wanted]}"
        )
    kept = {storage_of(state) for state in states}
    pairs = list(zip(found, wanted, strict=True))
    pairs = [pair for pair in pairs if storage_of(pair[1]) not in kept] or pairs
    terms = [_term(_wide(ours), _wide(theirs), logits) for ours, theirs in pairs]
    return torch.stack(terms).mean()


def _term(ours: Tensor, theirs: Tensor, logits: bool) -> Tensor:
    """The loss of one output: a scalar."""
    if logits:
        if theirs.ndim == 0 or theirs.shape[-1] <= 1:
            raise L0GateError(
                "`distill='kl'` compares logits over the last dimension; the model returns the"
                f" shape {tuple(theirs.shape)}: give `distill=True`"
            )
        ours, theirs = F.log_softmax(ours, -1), F.log_softmax(theirs, -1)
        return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1).mean()
    power = theirs.square().mean()
    scale = theirs.var(correction=0)
    scale = torch.where(scale > _CONSTANT * power, scale, power)
    return (ours - theirs).square().mean() / torch.where(scale > 0, scale, 1.0)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
