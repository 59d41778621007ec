"""Cuts a trained model without training: moments, candidates, and their errors on batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from l0gate._calibration import Calibration, calibrate
from l0gate._errors import L0GateError, check
from l0gate._pruner import Pruner
from l0gate.backends._torch.gating.distill import difference, run
from l0gate.backends._torch.gating.moments import gather_moments
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.pytree import Inputs, as_inputs


def calibrate_module(
    model: nn.Module,
    pruner: Pruner,
    state: Mapping[str, Any],
    parameters: Mapping[str, Tensor],
    batches: Iterable[Any],
    *,
    logits: bool = False,
) -> Calibration:
    """`l0gate.calibrate` for a model: the batches run twice, for moments and for errors.

    The model itself does not run, only copies of it. State that a model keeps from call to call
    is kept apart for every candidate.
    """
    check(
        isinstance(batches, Iterable) and not isinstance(batches, (Tensor, Mapping, str)),
        f"`reconstruct` is {type(batches).__name__}; it must be a list of batches, or a loader",
    )
    if isinstance(batches, Iterator):
        batches = list(batches)  # it is read twice
    base = pruner.gate(dict(parameters), dict(state))

    def calls() -> Iterator[Inputs]:
        empty = True
        for batch in batches:
            empty = False
            yield as_inputs(batch)
        check(not empty, "`reconstruct` has no batches")

    def outputs(copy: nn.Module, given: Mapping[str, Tensor], inputs: Inputs) -> Any:
        with undisturbed():
            return torch.func.functional_call(copy, dict(given), *inputs)

    def errors(candidates: Sequence[Mapping[str, Tensor]]) -> list[float]:
        dense, *copies = (
            copied(model, share_parameters=True).eval() for _ in range(len(candidates) + 1)
        )
        total, count = [0.0] * len(candidates), 0
        for inputs in calls():
            wanted, states = run(dense, partial(outputs, dense, base, inputs))
            for i, (copy, given) in enumerate(zip(copies, candidates, strict=True)):
                found = outputs(copy, given, inputs)
                total[i] += float(difference(found, wanted, states, logits=logits))
            count += 1
        return [value / count for value in total]

    try:
        moments = gather_moments(model, base, pruner.layout, pruner.backend, calls())
    except L0GateError:
        raise
    except Exception as error:  # whatever the model raises
        raise L0GateError(
            f"`reconstruct`: the model fails on a batch: {type(error).__name__}: {error}. Each must"
            " be what the model is called with: a tensor, a tuple of arguments, or a dict of named"
            " ones, without labels"
        ) from error
    return calibrate(pruner, dict(parameters), moments, errors, dict(state))
