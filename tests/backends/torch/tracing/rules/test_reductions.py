"""Reductions: over time they are followed, over the neurons themselves they freeze them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch_shapes import EXPECTED_WARNINGS
from traced_models import Run, assert_followed, assert_frozen, hidden

pytestmark = EXPECTED_WARNINGS

FOLLOWED: dict[str, Run] = {
    "mean": lambda m, x: m.out(hidden(m, x).mean(0)),
    "mean of several": lambda m, x: m.out(hidden(m, x).mean((0, 1))),
    "mean, dimension kept": lambda m, x: m.out(hidden(m, x).mean(0, keepdim=True)),
    "largest by name": lambda m, x: m.out(torch.max(hidden(m, x), dim=0).values),
    "sum behind": lambda m, x: m.out(hidden(m, x).permute(1, 2, 0).sum(axis=2)),
    "pooling": lambda m, x: m.out(F.avg_pool1d(hidden(m, x).permute(1, 2, 0), 5).squeeze(-1)),
    "cumulative": lambda m, x: m.out(hidden(m, x).cumsum(0)),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_reductions_over_other_dimensions_are_followed(name: str) -> None:
    assert_followed(FOLLOWED[name])


FROZEN: dict[str, tuple[Run, str]] = {
    "norm": (lambda m, x: m.out(m.norm(hidden(m, x))), "module 'norm' .* layer_norm"),
    "mean": (
        lambda m, x: m.out(hidden(m, x) - hidden(m, x).mean(-1, True)),
        "in mean along their own dimension",
    ),
    "sum of all": (
        lambda m, x: m.out(hidden(m, x) + hidden(m, x).sum()),
        "in sum over all dimensions, their own among them",
    ),
    "pooling": (
        lambda m, x: m.out(F.avg_pool1d(hidden(m, x), 3, 1, 1)),
        "avg_pool1d along their own dimension",
    ),
    "softmax": (
        lambda m, x: m.out(hidden(m, x).softmax(-1)),
        "in softmax along their own dimension",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_reductions_over_neurons_freeze_them(name: str) -> None:
    run, message = FROZEN[name]
    assert_frozen(run, "h1", message)
