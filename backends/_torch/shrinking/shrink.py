"""From a gate state to the small torch model and its certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from l0gate._chain import Chain
from l0gate._pruner import Pruner
from l0gate.backends._torch.examples import (
    Runner,
)
from l0gate.backends._torch.pytree import (
    Inputs,
    copied,
)
from l0gate.backends._torch.shrinking.resize import (
    Origin,
    attach,
    equal_groups,
    named_tensors,
    recurrent_axes,
    resize,
    room_for_projections,
)
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
) -> nn.Module:
    """The small model of a gate state, with its certificate."""
    dense = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
    axes = recurrent_axes(model, pruner.layout)
    groups = equal_groups(model, pruner.layout, every=equal)
    arrays, found = pruner.shrink(dense, dict(state), equal=groups)
    together = [*groups, *pruner.equal]
    kept = room_for_projections(model, pruner.layout, found, pruner.sizes, together)
    if any(len(kept[axis]) > len(found[axis]) for axis in kept):
        folded = pruner.gate(dense, dict(state))
        arrays = keep(pruner.layout, folded, kept, pruner.backend)
    small = resize(
        copied(model),
        {name: arrays[name] for name in pruner.layout.patterns},
        Origin(pruner.layout, kept, pruner.sizes, chain),
        reduces=lambda path: stateful is None or path in stateful,
    )
    run = Runner(model, axes)
    run_small = Runner(small, axes, _hint(kept))
    backend = pruner.backend

    def apply_small(given: Mapping[str, Tensor], i: int, dtype: str) -> Any:
        cast = {n: backend.cast(t, dtype) if t.is_floating_point() else t for n, t in given.items()}
        return run_small(cast, inputs[i])

    certificate = pruner.certify(
        lambda given, i: run(given, inputs[i]),
        dense,
        dict(state),
        named_tensors(small),
        kept,
        range(len(inputs)),
        apply_small=apply_small,
    )
    attach(small, certificate)
    return small


def _hint(kept: Mapping[str, np.ndarray]) -> str:
    sizes = ", ".join(f"{axis} = {len(index)}" for axis, index in kept.items())
    return (
        f" once it is small ({sizes}). Code that fixes a hidden size fails then, and so does code"
        " that needs the states of layers with unequal sizes as one tensor, for which `equal=True`"
        " helps"
    )
