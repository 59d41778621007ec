"""Following a run: what calls are named, what they return, and what is not followed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import tokens
from torch_shapes import EXPECTED_WARNINGS
from traced_models import Model, assert_frozen, assert_shrinks, gated_model, hidden

from l0gate.backends._torch.tracing.labels import Axis, Features
from l0gate.backends._torch.tracing.rules import RULES
from l0gate.backends._torch.tracing.tracer import Trace

pytestmark = EXPECTED_WARNINGS


def test_arguments_by_name_are_followed() -> None:
    def run(m: Any, x: Tensor) -> Any:
        y = hidden(m, x)
        return m.out(torch.select(input=y, dim=0, index=-1)), m.out(torch.unbind(input=y)[0])

    gated = gated_model(Model(run))
    assert gated.frozen == {}
    assert_shrinks(gated, tokens())


def test_a_function_without_a_rule_freezes_what_it_is_given() -> None:
    def ordered(m: Any, x: Tensor) -> Tensor:
        return m.out(hidden(m, x).sort(0)[0])

    assert_frozen(ordered, "h1", "in sort, which l0gate cannot follow")


def test_a_module_used_twice_has_one_set_of_axes() -> None:
    def twice(m: Any, x: Tensor) -> Tensor:
        return m.out(hidden(m, x)[-1]) + m.out(hidden(m, x.flip(0))[-1])

    assert set(gated_model(Model(twice)).layout.axes) == {"x", "h0", "h1"}


def test_a_parameter_that_another_call_uses_too_is_frozen() -> None:
    message = r"the model's own forward \(Model\) uses the parameter 'out.weight' in getitem"
    assert_frozen(lambda m, x: m.out(hidden(m, x)) * m.out.weight[0].mean(), "h1", message)


def test_a_parameter_that_is_used_in_two_ways_is_frozen() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return F.linear(hidden(m, x), m.square).sum(-1) + (hidden(m, x) @ m.square).sum(-1)

    model = Model(run)
    model.square = nn.Parameter(torch.eye(8))
    message = (
        r"axis 'h1': parameter 'square' is used in two different ways, the second by the model"
    )
    with pytest.warns(UserWarning, match=message):
        gated = gated_model(model)
    assert set(gated.frozen) == {"h1"}
    assert_shrinks(gated)


def test_axes_that_are_united_or_frozen() -> None:
    trace = Trace(nn.Linear(1, 1), RULES)
    a, b, c = Axis(4), Axis(4), Axis(3)
    assert trace.unite_parts(((a, 4),), ((b, 4),), "unequal") == ((a, 4),)
    assert not a.reasons
    assert trace.unite_parts(((a, 4),), ((None, 4),), "no axis") == ((None, 4),)
    assert a.reasons == ["no axis"]
    assert trace.unite_parts(((a, 4),), ((c, 3),), "unequal") is None
    assert (a.reasons, c.reasons) == (["no axis", "unequal"], ["unequal"])


def test_a_label_must_have_the_size_of_its_dimension() -> None:
    trace = Trace(nn.Linear(1, 1), RULES)
    axis, fits, differs = Axis(4), torch.ones(3, 4), torch.ones(3, 8)
    label = Features(-1, ((axis, 4),))
    trace.label(fits, label)
    assert trace.label_of(fits) == label
    trace.label(differs, label)
    assert trace.label_of(differs) is None
    assert axis.reasons == [
        "the model's own forward (Linear) uses its neurons in an operation that changes the size of"
        " their dimension"
    ]
