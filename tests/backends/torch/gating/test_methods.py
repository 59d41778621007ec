"""Methods on torch models: the same neurons as in NumPy, a module that trains and shrinks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch_models import Language, assert_close, tokens

import l0gate
from l0gate import Budget, Pruner
from l0gate.backends._torch.shrinking.resize import named_tensors
from l0gate.methods import GroupLasso

NAMES = ["magnitude", "gradual_magnitude", "iss", "geometric_median", "random"]


def gated_language(method: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return l0gate.gate(
        Language().double(),
        example_inputs=tokens(),
        budget=Budget(parameters=0.5, of="recurrent", settle=0.6),
        method=method,
        **options,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_module_trains_and_shrinks(name: str) -> None:
    gated = gated_language(name)
    optimizer = torch.optim.SGD(gated.param_groups(lr=0.1))
    x, y = tokens(seed=1), tokens(seed=2)
    dense = gated.model(x)[0]
    assert_close(gated(x)[0], dense)  # open until closed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(10):
            logits = gated(x)[0]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
            loss = loss + gated.penalty((step + 1) / 10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        small = gated.shrink()
    assert small.certificate.max_abs_difference < 1e-10
    assert small.certificate.forced_open == small.certificate.forced_closed == 0
    report = l0gate.report(gated)
    assert report.selected
    assert report.budget.after <= report.budget.limit
    assert_close(small(x)[0], gated.eval()(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_neurons_are_those_of_numpy(name: str) -> None:
    gated = gated_language(name)
    gated.penalty(0.7)
    arrays = {n: t.detach().numpy() for n, t in named_tensors(gated.model).items()}
    pruner = Pruner(gated.layout, gated.pruner.budget, method=name, freeze=gated.pruner.freeze)
    state = pruner.update(pruner.init(arrays), 0.7, arrays)
    kept = pruner.kept(pruner.select(state, arrays))
    found = gated.pruner.kept(gated.gates.read())
    for axis, index in kept.items():
        np.testing.assert_array_equal(found[axis], index)


def test_the_lasso_is_differentiated() -> None:
    gated = gated_language(GroupLasso(0.5))
    gated.penalty(0.1).backward()
    tensors = named_tensors(gated.model)
    slopes = gated.pruner.parameter_gradient(gated.gates.read(), tensors)
    for name in gated.layout.patterns:
        grad = tensors[name].grad
        assert_close(torch.zeros_like(tensors[name]) if grad is None else grad, slopes[name])
    assert gated.penalty(0.7).item() == 0
