"""Elementwise operations: channel-wise ones are followed, neurons at one place become the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_shapes import EXPECTED_WARNINGS
from traced_models import (
    Model,
    Run,
    assert_followed,
    assert_frozen,
    assert_shrinks,
    gated_model,
    hidden,
)

pytestmark = EXPECTED_WARNINGS


def in_place(m: Any, x: Tensor) -> Tensor:
    y = F.dropout(hidden(m, x), 0.3, m.training, inplace=True)
    y = F.relu(y, inplace=True)
    y *= 2
    y += 1
    return F.log_softmax(m.out(1 - y.float() / 3), dim=-1)


FOLLOWED: dict[str, Run] = {
    "activation": lambda m, x: m.out(torch.tanh(hidden(m, x))),
    "masked by steps": lambda m, x: m.out(hidden(m, x) * (x > 3).unsqueeze(-1)),
    "filled": lambda m, x: m.out(hidden(m, x).masked_fill((x > 3)[..., None], 0.0)),
    "in place": in_place,
    "maximum of two": lambda m, x: m.out(torch.max(y := hidden(m, x), y.tanh())),
    "prelu": lambda m, x: m.out(F.prelu(hidden(m, x), torch.full((1,), 0.1))),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_channel_wise_operations_are_followed(name: str, equal: bool) -> None:
    assert_followed(FOLLOWED[name], equal)


def test_a_tensor_that_would_keep_its_size_freezes_the_axis() -> None:
    message = "mul, together with a tensor that has a value for each"
    assert_frozen(lambda m, x: m.out(hidden(m, x) * torch.linspace(0, 1, 8)), "h1", message)


def test_neurons_that_are_added_become_one_axis() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x) + m.lift(m.table(x))[0]))
    model.lift = nn.GRU(6, 8)
    gated = gated_model(model)
    assert gated.layout.to_dict()["lift.weight_hh_l0"] == "(3 h1) <- h1"
    assert gated.layout.axes == ("x", "h0", "h1")
    assert_shrinks(gated)


def test_a_parameter_with_a_value_for_each_neuron_is_pruned_with_them() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x) * m.gain))
    model.gain = nn.Parameter(torch.linspace(1.0, 2.0, 8))
    gated = gated_model(model)
    assert gated.layout.to_dict()["gain"] == "h1"
    small = assert_shrinks(gated)
    assert torch.equal(small.gain, model.gain[small.certificate.kept["h1"]])


def test_a_prelu_with_a_weight_for_each_channel_freezes_its_axis() -> None:
    model = Model(lambda m, x: m.out(F.prelu(hidden(m, x).permute(1, 2, 0), m.weights).mean(-1)))
    model.weights = nn.Parameter(torch.linspace(0.1, 0.5, 8))
    with pytest.warns(UserWarning, match="axis 'h1': .* prelu with a weight for each channel"):
        gated = gated_model(model)
    assert set(gated.frozen) == {"h1"}
    assert_shrinks(gated)
