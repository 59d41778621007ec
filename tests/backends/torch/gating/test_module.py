"""The gated module: its gates, its penalty and its noise in training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_loops import train_language
from torch_models import (
    Features,
    Language,
    assert_close,
    autocast,
    gated_language,
    set_gates,
    tokens,
)

import l0gate
from l0gate import Budget, HardConcrete, L0GateError, Layout

pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:the axes .* are not pruned:UserWarning"),
]


# Training -------------------------------------------------------------------------------------


def test_five_lines_train_and_shrink() -> None:
    gated = gated_language(Budget(parameters=0.5))
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    first = train_language(gated, optimizer, 0, 1, 200)
    last = train_language(gated, optimizer, 0, 200, 200)
    small = gated.shrink()
    assert last < 0.7 * first
    assert all(value.grad is None for value in small.parameters())
    cost = gated.pruner.cost
    counts = {axis: len(index) for axis, index in small.certificate.kept.items()}
    assert sum(p.numel() for p in small.parameters()) == cost.at(counts) <= gated.pruner.limit
    for axis in counts:  # and no further neuron would fit
        assert cost.at({**counts, axis: counts[axis] + 1}) > gated.pruner.limit
    x = tokens(8, 16, seed=999)
    assert_close(small.eval()(x)[0], gated.eval()(x)[0])


def test_fresh_gates_change_nothing_in_eval_mode() -> None:
    gated = gated_language(model=Language(dropout=0.5).eval())
    assert not gated.training  # as the model
    assert torch.equal(gated(tokens())[0], gated.model(tokens())[0])
    with torch.no_grad():
        assert not torch.equal(gated.train()(tokens())[0], gated.model.eval()(tokens())[0])


def test_one_sample_per_optimizer_step() -> None:
    gated = gated_language(Budget(parameters=0.5))
    optimizer = torch.optim.SGD(gated.param_groups(lr=1e-2))
    x = tokens()
    first = gated(x)[0]
    assert torch.equal(gated(x)[0], first)
    assert torch.equal(gated.eval()(x)[0], gated(x)[0])  # no noise
    (gated.train()(x)[0].sum() + gated.penalty(0.0)).backward()
    assert torch.equal(gated(x)[0], first)
    optimizer.step()
    second = gated(x)[0]
    optimizer.step()  # the same gradient again: weights move, and so does the noise
    folded = [dict(gated._noise)]
    gated(x)
    folded.append(dict(gated._noise))
    assert not torch.equal(folded[0]["h0"], folded[1]["h0"])
    assert not torch.equal(first, second)


def test_multipliers_move_once_when_progress_advances() -> None:
    gated = gated_language(Budget(parameters=0.3))
    moved = []
    for progress in (0.0, 0.1, 0.1, 0.3, 0.3, 0.2):
        gated.penalty(progress)
        moved.append(gated.gates.multipliers.clone())
    assert not moved[0].any()
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(moved[1], moved[2])
    assert not torch.equal(moved[2], moved[3])
    assert torch.equal(moved[3], moved[4])
    assert torch.equal(moved[4], moved[5])
    with pytest.raises(L0GateError, match=r"`progress` is 1\.5"):
        gated.penalty(1.5)


def test_log_alpha_is_clamped_as_progress_advances() -> None:
    gated = gated_language()
    with torch.no_grad():
        gated.log_alpha["h0"].fill_(9.0)
    gated.penalty(0.5)
    gates = HardConcrete()
    assert float(gated.log_alpha["h0"].detach().max()) == gates.highest


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
def test_settled_gates_stay_whatever_the_optimizer_does() -> None:
    gated = gated_language(Budget(parameters=0.5, settle=0.8))
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    set_gates(gated)
    train_language(gated, optimizer, 0, 10, 10)
    assert gated.pruner.selected(gated.gates.read())
    decided = gated.pruner.gates(gated.gates.read())
    train_language(gated, optimizer, 10, 12, 12)
    for axis, values in gated.pruner.gates(gated.gates.read()).items():
        assert torch.equal(values, decided[axis])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is cut at the last moment
        gated.shrink()


def test_a_budget_that_was_never_met_says_so() -> None:
    gated = gated_language(Budget(parameters=0.3))
    with (
        pytest.warns(UserWarning, match="the gates stalled"),
        pytest.warns(UserWarning, match="open neurons were cut to meet the budget"),
    ):
        small = gated.shrink()
    assert small.certificate.forced_closed > 0


def test_parameter_groups() -> None:
    model = Language()
    model.embedding.weight.requires_grad_(False)
    gated = gated_language(model=model, gate_learning_rate=0.1)
    weights, gates = gated.param_groups(1e-3, weight_decay=0.1)
    assert [weights["lr"], weights["weight_decay"]] == [1e-3, 0.1]
    assert {id(p) for p in weights["params"]} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    assert [gates["lr"], gates["weight_decay"]] == [0.1, 0.0]
    assert [id(p) for p in gates["params"]] == [id(p) for p in gated.log_alpha.values()]
    assert gated.param_groups(1e-3, 0.5)[1]["lr"] == 0.5


def test_the_penalty_is_float32_under_autocast() -> None:
    gated = gated_language(Budget(parameters=0.5))
    gated.penalty(0.4)
    expected = gated.penalty(0.4)
    with autocast():
        assert gated(tokens())[0].dtype == torch.bfloat16
        assert torch.equal(gated.penalty(0.4), expected)
    assert expected.dtype == torch.float32


# Its inputs -----------------------------------------------------------------------------------


def test_models_called_by_keyword() -> None:
    class ByName(Language):
        def forward(self, *, ids: Tensor, state: Any = None) -> Any:  # type: ignore[override]
            y, state = super().forward(ids, state)
            return {"logits": y, "state": state}

    gated = gated_language(model=ByName(), example_inputs={"ids": tokens()})
    set_gates(gated)
    small = gated.shrink()
    found, expected = small(ids=tokens()), gated.eval()(ids=tokens())
    assert_close(found["logits"], expected["logits"])


def test_a_certificate_needs_inputs() -> None:
    class Two(Features):
        def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, offset)

    gated = l0gate.gate(Two(), layout=Layout.lstm(2, embedding=None), strength=1e-3)
    set_gates(gated)
    with pytest.raises(L0GateError, match=r"give `shrink\(example_inputs=...\)`"):
        gated.shrink()
    small = gated.shrink(example_inputs=(torch.randn(5, 2, 4), torch.randn(5, 2, 2)))
    assert small.certificate.max_abs_difference < 1e-12
