"""Frozen axes: which, why, and how the user is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import tokens
from torch_shapes import EXPECTED_WARNINGS
from traced_models import Model, Run, assert_shrinks, gated_model, hidden

import l0gate
from l0gate import L0GateError
from l0gate.backends._torch.tracing.frozen import (
    REQUESTED,
    RETURNED,
    describe_frozen,
    freezing_reasons,
    warn_about_frozen,
)
from l0gate.backends._torch.tracing.labels import Axis

pytestmark = EXPECTED_WARNINGS


@dataclass
class Output:
    features: Tensor


RETURNS: dict[str, Run] = {
    "alone": hidden,
    "in an object": lambda m, x: Output(hidden(m, x)),
    "beside others": lambda m, x: (m.out(y := hidden(m, x)), y),
}


@pytest.mark.parametrize("name", RETURNS)
def test_an_output_that_the_caller_sees_is_frozen(name: str) -> None:
    gated = gated_model(Model(RETURNS[name]))
    assert gated.pruner.freeze == ("h1",)
    small = assert_shrinks(gated)
    assert len(small.certificate.kept["h1"]) == 8
    assert len(small.certificate.kept["h0"]) < 8


@pytest.mark.parametrize("change", [lambda y: y > 0, lambda y: y.to(torch.complex64)])
def test_outputs_of_any_dtype_are_seen(change: Any) -> None:
    model = Model(lambda m, x: (m.out(y := hidden(m, x)), change(y)))
    with pytest.warns(UserWarning, match="the model returns its neurons to the caller"):
        gated = gated_model(model)
    assert set(gated.frozen) == {"h1"}
    small = assert_shrinks(gated)
    for ours, theirs in zip(small(tokens()), gated(tokens()), strict=True):
        assert torch.allclose(ours.to(theirs), theirs, atol=1e-6)


def test_an_embedding_that_is_normed_is_frozen_when_asked() -> None:
    def normed(m: Any, x: Tensor) -> Tensor:
        return m.out(m.rnn(F.layer_norm(m.table(x), (6,)))[0])

    with pytest.raises(L0GateError, match=r"axis 'x': the model's own forward .* layer_norm"):
        gated_model(Model(normed), strict=True)
    gated = gated_model(Model(normed), freeze=["x"])
    assert gated.layout.to_dict()["table.weight"] == "_ -> _"
    assert set(gated.layout.axes) == {"h0", "h1"}


def test_a_model_in_which_all_is_frozen_is_refused() -> None:
    message = (
        r"no neuron of the model can be pruned, .*:\n  axis 'h0': the model returns .*`layout="
    )
    with pytest.raises(L0GateError, match=f"(?s){message}"):
        l0gate.gate(nn.GRU(3, 4), example_inputs=torch.zeros(5, 2, 3), strength=1e-3)


def test_the_first_reason_is_told() -> None:
    axes = [
        Axis(4, "h0"),
        Axis(4, "h1", reasons=["a norm", "a sum"], returned=True),
        Axis(4, "h2", returned=True),
        Axis(4, "h3", reasons=["a norm"]),
    ]
    reasons = freezing_reasons(axes, ["h3"])
    assert reasons == {"h1": "a norm", "h2": RETURNED, "h3": REQUESTED}
    assert describe_frozen(reasons).splitlines()[1] == "  axis 'h1': a norm"


def test_only_what_was_not_requested_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    warn_about_frozen({"h0": REQUESTED}, [])
    assert not recwarn.list
    warn_about_frozen({"h0": REQUESTED, "h1": "a norm"}, ["  9 parameters are not counted"])
    (warning,) = recwarn.list
    assert str(warning.message).splitlines() == [
        "these parts of the model are frozen, not pruned:",
        "  axis 'h1': a norm",
        "  9 parameters are not counted",
        "`freeze=['h1']` accepts that without a warning, `layout=` describes the model by hand, and"
        " `strict=True` makes what cannot be followed an error",
    ]
