"""`shrink_model`: makes the small model and its certificate from a gate state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from l0gate._chain import Chain
from l0gate._pruner import Pruner
from l0gate.backends._torch.isolation import copied
from l0gate.backends._torch.kept_state import Held
from l0gate.backends._torch.pytree import Inputs, named_tensors
from l0gate.backends._torch.recurrent_axes import (
    equal_groups,
    recurrent_axes,
    widen_projected,
)
from l0gate.backends._torch.shrinking.certify import certify_module
from l0gate.backends._torch.shrinking.resize import Origin, attach_certificate, resize
from l0gate.layout.fold import keep


def shrink_model(
    model: nn.Module,
    pruner: Pruner,
    state: Mapping[str, Any],
    inputs: Sequence[Inputs],
    *,
    equal: bool,
    chain: Chain | None,
    stateful: frozenset[str] | None,
    held: Held,
    parameters: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """The small model of a gate state, with its certificate on `inputs`.

    `equal` keeps the same number of neurons in all layers and directions of a recurrent module.
    `chain` describes the whole model if it is a chain. `stateful` holds the paths of the recurrent
    modules that the model gives initial states: these will accept states of the dense size. None
    stands for all recurrent modules. `held` is what the model holds beside its parameters: kept
    state starts as it was when the model was gated.
    `parameters` replace those of the model, where given.
    """
    model = copied(model)
    held.state.restore(model)
    state_axes = recurrent_axes(model, pruner.layout)
    groups = equal_groups(model, state_axes, every=equal)
    dense = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
    dense |= parameters or {}
    arrays, open_now = pruner.shrink(dense, dict(state), equal=groups)
    kept = widen_projected(state_axes, open_now, pruner.sizes, [*groups, *pruner.equal])
    if any(len(kept[axis]) > len(open_now[axis]) for axis in kept):
        arrays = keep(pruner.layout, pruner.gate(dense, dict(state)), kept, pruner.backend)
    small = resize(
        copied(model),
        {name: arrays[name] for name in pruner.layout.patterns},
        Origin(pruner.layout, kept, pruner.sizes, chain, held=held),
        state_axes,
        accepts_states=lambda path: stateful is None or path in stateful,
    )
    certificate = certify_module(
        model,
        dense,
        small,
        pruner,
        state,
        kept,
        state_axes,
        inputs,
        calls=held.calls,
        equal=equal,
    )
    attach_certificate(small, certificate)
    return small
