"""What can be gated, what cannot, and what the caller is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_models import Language, gated_language, set_gates, tokens
from torch_shapes import EXPECTED_WARNINGS

import l0gate
from l0gate import Budget, L0GateError

pytestmark = EXPECTED_WARNINGS


def test_what_cannot_be_gated() -> None:
    x = tokens()
    with pytest.raises(L0GateError, match="give `example_inputs`"):
        l0gate.gate(Language(), strength=1e-3)
    with pytest.raises(L0GateError, match="`model` is gated already"):
        l0gate.gate(gated_language(), example_inputs=x, strength=1e-3)
    with pytest.raises(L0GateError, match="without a size yet"):
        l0gate.gate(nn.Sequential(nn.LazyLinear(3)), example_inputs=x, strength=1e-3)
    with pytest.raises(L0GateError, match="`example_inputs`: the model Language fails on them"):
        l0gate.gate(Language(), example_inputs=x.float(), strength=1e-3)

    class Mine(nn.LSTM):
        pass

    model = Language()
    model.rnn = Mine(6, 8, 2)
    set_gates(gated := l0gate.gate(model, example_inputs=x, strength=1e-3))
    assert type(gated.shrink().rnn) is Mine


def test_equal_counts_can_be_part_of_the_selection() -> None:
    gated = gated_language(Budget(parameters=0.4), equal=True)
    set_gates(gated)
    gated.penalty(1.0)
    small = gated.shrink()
    assert type(small.rnn) is nn.LSTM
    cost = gated.pruner.cost
    counts = {axis: len(index) for axis, index in small.certificate.kept.items()}
    assert counts["h0"] == counts["h1"]
    assert cost.at(counts) <= gated.pruner.limit
    seen = nn.LSTM(4, 6, 2)
    with pytest.warns(
        UserWarning, match=r"the axes \('h0', 'h1'\) are not pruned: .* h1 is frozen"
    ):
        gated_language(model=seen, example_inputs=torch.randn(5, 3, 4), equal=True)


def test_a_model_that_would_keep_everything_is_refused() -> None:
    with pytest.raises(
        L0GateError,
        match=r"(?s)no neuron of the model can be pruned.*axis 'h0': the model returns its",
    ):
        l0gate.gate(nn.GRU(3, 4), example_inputs=torch.zeros(5, 2, 3), strength=1e-3)


class Frontend(nn.Module):
    """Most of its parameters stand before anything that gates can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Conv2d(1, 16, 5, padding=2)
        self.mix = nn.MultiheadAttention(16, 4, batch_first=True)
        self.rnn = nn.GRU(16, 8, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        y = self.images(x.unsqueeze(1)).mean(-1).transpose(1, 2)
        return self.out(self.rnn(self.mix(y, y, y)[0])[0][:, -1])


def test_what_the_budget_does_not_count_is_named() -> None:
    model, x = Frontend(), torch.randn(4, 8, 12)
    outside = sum(p.numel() for p in model.mix.parameters())
    total = sum(p.numel() for p in model.parameters())
    said = f"{outside:,} of the model's {total:,} parameters, which the budget does not count"
    with pytest.warns(UserWarning, match=said) as caught:
        gated = l0gate.gate(model, example_inputs=x, budget=Budget(parameters=0.5))
    assert str(caught[0].message).count(": mix, mix.out_proj") == 1
    assert f"The whole model goes from {total:,} parameters" in str(l0gate.report(gated))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(3, 6)
        self.rnn = nn.GRU(6, 16, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.norm(self.rnn(self.lift(x))[0][:, -1]))


def test_a_budget_out_of_reach_names_what_is_frozen() -> None:
    x = torch.randn(2, 5, 3)
    with pytest.raises(L0GateError, match=r"the least is \d+ \(\d") as error:
        l0gate.gate(Normed(), example_inputs=x, budget=Budget(parameters=0.05))
    assert "all of 'h0', which are frozen" in str(error.value)
    said = (
        "these parts of the model are frozen, not pruned:\n  axis 'h0': module 'norm' (LayerNorm)"
    )
    assert said in str(error.value)


@pytest.mark.parametrize("given", [np.ones((2, 5, 3)), "x", (), (np.ones(3),), {"x": 3}])
def test_example_inputs_hold_a_tensor(given: object) -> None:
    model = nn.GRU(3, 4)
    with pytest.raises(L0GateError, match=r"`example_inputs` is a \w+ without a tensor"):
        l0gate.gate(model, example_inputs=given, budget=l0gate.Budget(parameters=0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seed": "1"}, "`seed` is '1'"), ({"gate_learning_rate": -1}, "`gate_learning_rate` is -1")],
)
def test_numbers_are_checked(options: dict[str, object], message: str) -> None:
    inputs = (torch.randn(2, 5, 3),)
    with pytest.raises(L0GateError, match=message):
        l0gate.gate(  # type: ignore[arg-type]
            nn.GRU(3, 4), example_inputs=inputs, budget=l0gate.Budget(parameters=0.5), **options
        )


def test_a_budget_below_the_floor_says_why_an_axis_is_whole() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rnn = nn.Conv1d(8, 64, 1), nn.GRU(64, 8, batch_first=True)
            self.last = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            B, T, _ = x.shape
            y = self.first(x.reshape(B * T, 8, 1)).reshape(B, T, 64)
            return self.last(self.rnn(y)[0])

    with pytest.raises(L0GateError, match=r"(?s)the least is .*axis 'x': .*\[3, 5, 64\]"):
        l0gate.gate(
            Fixed(),
            example_inputs=(torch.randn(3, 5, 8),),
            budget=l0gate.Budget(parameters=0.3),
        )


@pytest.mark.parametrize("progress", ["1", None, True, [0.5]])
def test_progress_is_a_number(progress: object) -> None:
    inputs = (torch.randn(2, 5, 3),)
    model = nn.GRU(3, 4, num_layers=2)
    budget = l0gate.Budget(parameters=0.8)
    gated = l0gate.gate(model, example_inputs=inputs, budget=budget)
    with pytest.raises(L0GateError, match=r"`progress` is .*; it must be a number from 0 to 1"):
        gated.penalty(progress)
