"""Helpers of the propagation rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from l0gate.backends._torch.tracing.labels import Axis, Features, StackedStates, root
from l0gate.backends._torch.tracing.rules import RULES
from l0gate.backends._torch.tracing.rules.common import (
    along_other_dimension,
    dimensions,
    on_features,
    pieces,
    tensors_of,
)
from l0gate.backends._torch.tracing.tracer import Call, Trace


def call_of(label: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Call:
    """A call of some function that returns its first tensor."""
    return Call("some", (tensor, *args), kwargs, [tensor], {0: label}, tensor.clone())


@pytest.fixture
def trace() -> Trace:
    return Trace(nn.Linear(1, 1), RULES)


def test_tensors_and_dimensions_of_a_call() -> None:
    x, y = torch.ones(2), torch.ones(3)
    assert tensors_of(x) == [x]
    assert [len(t) for t in tensors_of((x, 1, y))] == [2, 3]
    for args, kwargs in (((1, 0), {}), (((1, 0),), {}), ((), {"dims": (1, 0)})):
        assert dimensions(Call("permute", (x, *args), kwargs, [x], {}, x), 1) == (1, 0)
    assert dimensions(Call("flip", (x, 1), {}, [x], {}, x), 1) == (1,)


def test_a_function_along_another_dimension_keeps_the_label(trace: Trace) -> None:
    axis, x = Axis(4), torch.ones(3, 4)
    label = Features(-1, ((axis, 4),))
    call = call_of(label, x, 0)
    assert along_other_dimension(1)(trace, call) is None
    assert trace.label_of(call.out) == label
    for dim in (1, -1):
        assert (
            along_other_dimension(1)(trace, call_of(label, x, dim))
            == "some along their own dimension"
        )
    assert "over all dimensions" in str(along_other_dimension(1)(trace, call_of(label, x)))


def test_equal_pieces_become_the_same_neurons(trace: Trace) -> None:
    a, b = Axis(4, "f0"), Axis(4, "b0")
    label = Features(-1, ((a, 4), (b, 4)))
    assert pieces(trace, label, 3) is None
    assert root(a) is not root(b)
    assert pieces(trace, label, 2) == [((a, 4),)] * 2
    assert root(a) is root(b)
    assert pieces(trace, Features(-1, ((Axis(4), 4), (Axis(3), 3))), 2) is None


def test_stacked_states_become_features_for_a_rule(trace: Trace) -> None:
    seen = []
    rule = on_features(lambda trace, call: seen.append(call.features))  # type: ignore[func-returns-value]
    a, b = Axis(4, "h0"), Axis(4, "h1")
    rule(trace, call_of(StackedStates((((a, 4),), ((b, 4),))), torch.ones(2, 3, 4)))
    assert seen == [Features(-1, ((a, 4),))]
    assert root(b) is a
    unequal = StackedStates((((Axis(4), 4),), ((Axis(3), 3),)))
    assert rule(trace, call_of(unequal, torch.ones(2, 3, 4))) == "some of stacked states"
    assert len(seen) == 1
