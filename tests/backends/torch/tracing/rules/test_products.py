"""Products: weighted sums over time and parameters are followed, dot products over neurons not."""

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


def weights_of(m: Any, y: Tensor) -> Tensor:
    """Three weights for every time step and sequence, computed through a linear layer."""
    weights: Tensor = m.out(y).softmax(-1)
    return weights


def from_both_sides(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x).transpose(0, 1)
    weights = weights_of(m, y)
    return m.out((weights.mT @ y).mean(1) + (y.mT @ weights).mean(-1))


def attended(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x).transpose(0, 1)
    weights = weights_of(m, y)
    return m.out(F.scaled_dot_product_attention(weights, weights, y))


FOLLOWED: dict[str, Run] = {
    "weights over time": from_both_sides,
    "weights as a vector": lambda m, x: m.out(hidden(m, x).permute(1, 2, 0) @ torch.ones(5)),
    "einsum": lambda m, x: m.out(
        torch.einsum("tbk,tbh->bkh", weights_of(m, y := hidden(m, x)), y).mean(1)
    ),
    "values of attention": attended,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_sums_over_other_dimensions_are_followed(name: str) -> None:
    assert_followed(FOLLOWED[name])


def test_a_parameter_on_the_right_reads_neurons() -> None:
    model = Model(lambda m, x: hidden(m, x) @ m.matrix)
    model.matrix = nn.Parameter(torch.linspace(-1.0, 1.0, 24).view(8, 3))
    gated = gated_model(model)
    assert gated.layout.to_dict()["matrix"] == "h1 -> _"
    assert_shrinks(gated)


def similarity(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    return torch.softmax(y @ y.mT, dim=-1) @ m.out(y)


def own_attention(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    return m.out(F.scaled_dot_product_attention(y, y, y))


FROZEN: dict[str, tuple[Run, str]] = {
    "similarities": (similarity, "in matmul, a dot product over neurons"),
    "a dimension that vanishes": (
        lambda m, x: m.out(y := hidden(m, x)) * torch.einsum("tbh->tb", y)[..., None],
        "in einsum, which sums over the neurons",
    ),
    "queries and keys": (own_attention, "attention, a dot product over neurons"),
    "an equation in short": (
        lambda m, x: m.out(torch.einsum("...h->...h", hidden(m, x))),
        "einsum with an equation that is not written out",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_sums_over_neurons_freeze_them(name: str) -> None:
    run, message = FROZEN[name]
    assert_frozen(run, "h1", message)
