"""Indices, slices and chunks: of time and batch, and of whole axes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
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

FOLLOWED: dict[str, Run] = {
    "last step": lambda m, x: m.out(hidden(m, x)[-1]),
    "chosen step": lambda m, x: m.out(hidden(m, x)[torch.arange(3) + 1, torch.arange(3)]),
    "some steps": lambda m, x: m.out(hidden(m, x)[1:, None, :2]),
    "masked steps": lambda m, x: m.out(hidden(m, x)[x > 3]),
    "select": lambda m, x: m.out(hidden(m, x).select(0, -1)),
    "split over time": lambda m, x: m.out(hidden(m, x).split(2)[0]),
    "last state": lambda m, x: m.out(m.rnn(m.table(x))[1][0][-1]),
    "narrow": lambda m, x: m.out(hidden(m, x).narrow(0, 1, 2).flip(0, 1)),
    "chosen steps": lambda m, x: m.out(hidden(m, x).index_select(0, torch.arange(2))),
    "gathered steps": lambda m, x: m.out(
        (y := hidden(m, x)).gather(0, torch.ones(1, 3, 1).long().expand(1, 3, y.size(2)))[0]
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_parts_of_other_dimensions_are_followed(name: str, equal: bool) -> None:
    assert_followed(FOLLOWED[name], equal)


def test_directions_taken_apart_keep_the_same_neurons() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        y = hidden(m, x)
        size = y.shape[-1] // 2
        return m.out(torch.cat([y[-1, :, size:], y[0, :, :size]], -1))

    gated = gated_model(Model(halves, num_layers=1, bidirectional=True))
    assert gated.layout.to_dict()["out.weight"] == "_ <- (2 f0)"
    assert set(gated.layout.axes) == {"x", "f0"}
    assert not gated.frozen
    assert_shrinks(gated)


FROZEN: dict[str, tuple[Run, str]] = {
    "quarters": (
        lambda m, x: m.out(torch.cat(hidden(m, x).split([4, 4], -1), -1)),
        "split along their own",
    ),
    "every other": (
        lambda m, x: m.out(hidden(m, x)[..., ::2].repeat(1, 1, 2)),
        "index that selects some of",
    ),
    "some neurons": (
        lambda m, x: m.out(F.pad(hidden(m, x)[..., :4], (0, 4))),
        "index that selects some of its",
    ),
    "chosen neurons": (
        lambda m, x: m.pick(hidden(m, x)[..., torch.arange(3)]),
        "index that selects some of its",
    ),
    "narrowed": (lambda m, x: m.pick(hidden(m, x).narrow(-1, 0, 3)), "narrow along their own"),
    "an index of its own for each": (
        lambda m, x: m.out(hidden(m, x).gather(0, torch.arange(8).expand(1, 3, 8) % 5)[0]),
        "gather, whose index differs from neuron to neuron",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_a_selection_of_neurons_freezes_them(name: str) -> None:
    run, message = FROZEN[name]
    assert_frozen(run, "h1", message)
