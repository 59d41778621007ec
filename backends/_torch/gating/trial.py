"""Shrinks a model with random gates, so that a wrong layout is found before any training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from l0gate._errors import L0GateError
from l0gate._pruner import Pruner
from l0gate.backends._torch.kept_state import Held
from l0gate.backends._torch.pytree import Inputs, named_tensors
from l0gate.backends._torch.shrinking.shrink import shrink_model


def try_random_gates(
    model: nn.Module,
    pruner: Pruner,
    inputs: Sequence[Inputs],
    *,
    equal: bool,
    stateful: frozenset[str] | None,
    held: Held,
    only: str | None = None,
) -> L0GateError | None:
    """Shrink and certify the model with random gates; return the error that this raises, or None.

    The axes that `pruner` freezes are frozen here too. With `only`, all axes but that one are
    frozen. The model itself is not changed.
    """
    hc, sizes = pruner.hard_concrete, pruner.sizes
    axes = [axis for axis in sizes if axis not in pruner.freeze and only in (None, axis)]
    trial = Pruner(
        pruner.layout,
        strength=0.0,
        gates=hc,
        backend="torch",
        freeze=[axis for axis in sizes if axis not in axes],
    )
    rng = np.random.default_rng(0)
    log_alpha = {axis: rng.uniform(hc.lowest, hc.highest, sizes[axis]) for axis in axes}
    for values in log_alpha.values():
        values[0] = hc.highest  # every axis keeps a neuron
    with torch.no_grad():
        state = trial.init(named_tensors(model), log_alpha=log_alpha)
        try:
            shrink_model(
                model,
                trial,
                state,
                inputs,
                equal=equal,
                chain=None,
                stateful=stateful,
                held=held,
            )
        except L0GateError as error:
            return error
    return None


def find_unshrinkable(
    model: nn.Module,
    pruner: Pruner,
    inputs: Sequence[Inputs],
    *,
    equal: bool,
    stateful: frozenset[str] | None,
    held: Held,
) -> dict[str, str]:
    """Try the axes one by one; return those that cannot be shrunk, each with the reason.

    This finds what the tracer cannot see, such as a hidden size written as a number in the model's
    code. The result is empty if every axis fails, since freezing all would leave nothing to gate.
    """
    found = {}
    free = [axis for axis in pruner.sizes if axis not in pruner.freeze]
    for axis in free:
        failure = try_random_gates(
            model, pruner, inputs, equal=equal, stateful=stateful, held=held, only=axis
        )
        if failure is not None:
            found[axis] = f"tried on random gates, it cannot be shrunk: {failure}"
    return found if len(found) < len(free) else {}
