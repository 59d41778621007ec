"""Dimensions that move, merge or split: the neurons' own one is found again, or is frozen."""

from __future__ import annotations

from collections.abc import Callable
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
    gated_model,
    hidden,
)

pytestmark = EXPECTED_WARNINGS

FOLLOWED: dict[str, tuple[Run, dict[str, Any]]] = {
    "batch to the front": (lambda m, x: m.out(hidden(m, x).transpose(0, 1).contiguous()), {}),
    "permute": (lambda m, x: m.out(hidden(m, x).permute(1, 0, 2)), {}),
    "permute by name": (lambda m, x: m.out(torch.permute(hidden(m, x), dims=(1, 0, 2))), {}),
    "moved twice": (lambda m, x: m.out(hidden(m, x).movedim(-1, 0).movedim(0, 2)), {}),
    "flat": (lambda m, x: m.out(hidden(m, x).reshape(-1, m.rnn(m.table(x))[0].size(2))), {}),
    "merged time": (lambda m, x: m.out(hidden(m, x).flatten(0, 1)), {}),
    "only state": (
        lambda m, x: m.out(m.rnn(m.table(x))[1].squeeze(0)),
        {"cell": nn.GRU, "num_layers": 1},
    ),
    "states with another dimension": (
        lambda m, x: m.out(m.rnn(m.table(x))[1].unsqueeze(1)[-1]),
        {"cell": nn.GRU, "num_layers": 1},
    ),
    "cast": (lambda m, x: m.out((y := hidden(m, x)).to(torch.float64).to(y.dtype)), {}),
    "padded time": (lambda m, x: m.out(F.pad(hidden(m, x), (0, 0, 0, 0, 1, 0))[1:]), {}),
    "repeated time": (lambda m, x: m.out(hidden(m, x).repeat(2, 1, 1)), {}),
    "flipped time": (lambda m, x: m.out(hidden(m, x).flip(0, 1)), {}),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_moved_dimensions_are_followed(name: str, equal: bool) -> None:
    run, options = FOLLOWED[name]
    assert_followed(run, equal, **options)


FROZEN: dict[str, tuple[Run, str]] = {
    "split": (
        lambda m, x: m.out(hidden(m, x).view(5, 3, 2, 4).flatten(2)),
        "in view, which merges or splits their dimension",
    ),
    "flipped": (lambda m, x: m.out(hidden(m, x).flip(0, -1)), "flip along their own"),
    "padded": (lambda m, x: m.pick(F.pad(hidden(m, x), (-5, 0))), "pad along their own"),
    "copied": (
        lambda m, x: m.out(y := hidden(m, x)) * (1 + y.new_tensor(y).abs().mean()),
        "new_tensor",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.filterwarnings("ignore:.*To copy construct from a tensor:UserWarning")
def test_what_rearranges_neurons_freezes_them(name: str) -> None:
    run, message = FROZEN[name]
    assert_frozen(run, "h1", message)


@pytest.mark.parametrize(
    "take",
    [lambda y: y[..., 8:] + 0, lambda y: y.narrow(-1, 8, 8), lambda y: y.view(5, 3, 2, 8)[:, :, 1]],
)
def test_directions_by_a_size_in_the_code_are_frozen(take: Callable[[Tensor], Tensor]) -> None:
    model = Model(lambda m, x: m.single(take(hidden(m, x))), num_layers=1, bidirectional=True)
    model.single = nn.Linear(8, 3)
    with pytest.warns(UserWarning, match="axis 'f0': tried on random gates, it cannot be shrunk"):
        gated = gated_model(model)
    assert set(gated.frozen) == {"f0"}
