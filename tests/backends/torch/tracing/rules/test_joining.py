"""`cat` and `stack`: along the neurons' dimension side by side, along others the same neurons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch_shapes import EXPECTED_WARNINGS
from traced_models import (
    Model,
    Run,
    assert_followed,
    assert_frozen,
    assert_shrinks,
    gated_model,
    hidden,
    ones_of,
)

pytestmark = EXPECTED_WARNINGS


def step_by_step(m: Any, x: Tensor) -> Tensor:
    outputs, state = [], None
    for x_t in x:
        y, state = m.rnn(m.table(x_t[None]), state)
        outputs.append(y[0])
    return m.out(torch.cat(outputs))


def last_states(m: Any, x: Tensor) -> Tensor:
    states = m.rnn(m.table(x))[1]
    return m.out(torch.cat((states[-2], states[-1]), 1))


def with_zeros(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    return m.out(torch.cat([y.new_zeros(1).expand(2, *y.shape[1:]), y]))


FOLLOWED: dict[str, tuple[Run, dict[str, Any]]] = {
    "stack": (lambda m, x: m.out(torch.stack([y_t * 2 for y_t in hidden(m, x)], dim=1)), {}),
    "stack behind": (
        lambda m, x: m.out(torch.stack([y := hidden(m, x), y.tanh()], dim=-1).sum(-1)),
        {},
    ),
    "cat over time": (step_by_step, {}),
    "cat with zeros": (with_zeros, {}),
    "cat of states": (last_states, {"cell": nn.GRU, "bidirectional": True}),
    "pad_sequence": (lambda m, x: m.out(pad_sequence(list(hidden(m, x).unbind(1)))), {}),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_joined_tensors_are_followed(name: str, equal: bool) -> None:
    run, options = FOLLOWED[name]
    assert_followed(run, equal, **options)


def test_concatenation_puts_axes_side_by_side() -> None:
    def joined(m: Any, x: Tensor) -> Tensor:
        y = hidden(m, x)
        wide = torch.cat([y[-1], y[:, :, :][0], ones_of(x, 2), y.flip(0)[0, ...]], dim=1)
        return F.linear(wide, m.wide)

    model = Model(joined)
    model.wide = nn.Parameter(torch.randn(3, 26))
    gated = gated_model(model)
    assert gated.layout.to_dict()["wide"] == "_ <- (2 h1 + 2 + h1)"
    assert_shrinks(gated)


def test_numbers_beside_neurons_in_another_dimension_freeze_them() -> None:
    message = "stack, together with a tensor that is not pruned along with them"
    random = torch.arange(8.0).expand(5, 3, 8)
    assert_frozen(lambda m, x: m.out(torch.stack([hidden(m, x), random]).sum(0)), "h1", message)
