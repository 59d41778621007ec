"""The training loop: how it starts, its steps, and evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cli_runs import NUMPY, TOKENS, make_task, run_all, same

from l0gate import L0GateError
from l0gate.cli._adam import Adam
from l0gate.cli._batches import chunks, steps_per_epoch, streams
from l0gate.cli._training import (
    NotFiniteError,
    evaluate,
    schedule,
    start,
    train,
)
from l0gate.methods import GroupLasso

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


def test_the_learning_rate_rises_and_falls() -> None:
    assert schedule(0.01) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 0.01)))
    assert schedule(0.02) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.02)))
    assert schedule(0.5) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0)


def test_a_start_has_all_that_a_training_needs() -> None:
    task = make_task()
    training = start(task)
    assert training.step == 0
    assert training.rng == NUMPY.rng(4)
    same(
        training.parameters, task.net.init(np.random.default_rng(3), input_size=5, sizes=task.sizes)
    )
    assert task.pruner is not None
    same(training.gates, task.pruner.init(training.parameters, 3))
    assert set(training.adam.first) == set(training.parameters)
    assert training.gate_adam is not None
    assert set(training.gate_adam.second) == set(training.gates["log_alpha"])
    plain = start(make_task(gated=False))
    assert plain.gates is plain.gate_adam is plain.rng is None
    training.finish()
    assert training.adam == Adam({}, {})
    assert training.gate_adam is training.rng is training.carry is None


@pytest.mark.parametrize("way", ["dense", None, "gradual_magnitude", GroupLasso(0.05)])
def test_a_step_is_what_it_says(way: Any) -> None:
    """Against the same step written out: noise, gating, clipping, both Adams, controller."""
    task = make_task(way != "dense", steps=30, method=way)
    training = start(task)
    data = streams(TOKENS, 2)
    parameters = {n: a.copy() for n, a in training.parameters.items()}
    adam, carry = Adam.start(NUMPY, parameters), None
    gates = gate_adam = None
    rng = NUMPY.rng(4)
    pruner = task.pruner
    if pruner is not None:
        gates = pruner.init(parameters, 3)
        gate_adam = Adam.start(NUMPY, gates["log_alpha"])
    for k, _ in enumerate(train(task, training)):
        position = k % steps_per_epoch(len(TOKENS), 2, 7)
        carry = None if position == 0 else carry
        x = data[7 * position : 7 * position + 7]
        y = data[7 * position + 1 : 7 * position + 8]
        progress, share = (k + 1) / 30, 1.0
        if pruner is None:
            loss, slopes, carry = task.net.loss_and_gradients(parameters, x, y, carry)
        else:
            noise, rng = pruner.noise(gates, rng)
            folded = pruner.gate(parameters, gates, noise)
            loss, slopes, carry = task.net.loss_and_gradients(folded, x, y, carry)
            slopes, of_gates = pruner.pullback(parameters, gates, noise, slopes)
            for name, slope in pruner.parameter_gradient(gates, parameters).items():
                slopes[name] += slope
            share = float(pruner.expected_size(gates)) / pruner.cost.total
        norm = math.sqrt(sum(float(np.sum(s * s)) for s in slopes.values()))
        slopes = {n: min(1.0, 1.0 / norm) * s for n, s in slopes.items()}
        adam.step(NUMPY, parameters, slopes, 0.01 * schedule(progress))
        if pruner is not None:
            penalty = pruner.penalty_gradient(gates, progress)
            total = {a: s + penalty[a] for a, s in of_gates.items()}
            gate_adam.step(NUMPY, gates["log_alpha"], total, 0.1)
            gates = pruner.update(gates, progress, parameters)
            if progress >= 0.5 and not pruner.selected(gates):
                gates = pruner.select(gates, parameters)
            same(training.gates, gates)
            assert training.rng == rng
            assert pruner.selected(training.gates) == (progress >= 0.5)
        same(training.parameters, parameters)
        same(training.carry, carry)
        assert training.losses[-1] == loss
        assert training.shares[-1] == share
        assert training.step == k + 1
    assert training.step == 30


def test_the_selection_knows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    assert task.pruner is not None
    given: list[Any] = []
    select = task.pruner.select

    def watch(gates: Any, parameters: Any) -> Any:
        given.append(parameters)
        return select(gates, parameters)

    monkeypatch.setattr(task.pruner, "select", watch)
    training = run_all(task, start(task))
    assert len(given) == 1
    assert given[0] is training.parameters


def test_large_gradients_are_clipped_to_one() -> None:
    task = make_task(gated=False, steps=1)
    seen = {}

    class Steep:
        def __getattr__(self, name: str) -> Any:
            return getattr(task.net, name)

        def loss_and_gradients(self, *args: Any) -> Any:
            loss, slopes, carry = task.net.loss_and_gradients(*args)
            return loss, {n: 1e3 * s for n, s in slopes.items()}, carry

    steep = make_task(gated=False, steps=1, net=Steep())
    training = start(steep)
    training.adam.step = lambda b, p, slopes, rate: seen.update(slopes)  # type: ignore[method-assign]
    run_all(steep, training)
    assert sum(float(np.sum(s * s)) for s in seen.values()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_any_change(broken: str) -> None:
    task = make_task(gated=False)

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(task.net, name)

        def loss_and_gradients(self, *args: Any) -> Any:
            loss, slopes, carry = task.net.loss_and_gradients(*args)
            if broken == "loss":
                return math.inf, slopes, carry
            return loss, {n: np.full_like(s, np.nan) for n, s in slopes.items()}, carry

    other = make_task(gated=False, net=Broken())
    training = start(other)
    before = {n: a.copy() for n, a in training.parameters.items()}
    with pytest.raises(NotFiniteError, match=r"the loss is .* and the norm of its gradient"):
        run_all(other, training)
    same(training.parameters, before)
    assert training.step == 0


def test_evaluation_averages_over_every_token() -> None:
    task = make_task(gated=False)
    parameters = start(task).parameters
    total, count, carry = 0.0, 0, None
    for x, y in chunks(streams(TOKENS, 2), 7):
        loss, carry = task.net.loss(parameters, x, y, carry)
        total, count = total + loss * x.size, count + x.size
    assert count == 198
    assert evaluate(task.net, parameters, TOKENS, 2, 7) == pytest.approx(total / count, rel=1e-12)
    assert evaluate(task.net, parameters, TOKENS[:2], 5, 7) > 0.0  # one token predicts one
    # Too short for so many streams: fewer are used.
    alone = evaluate(task.net, parameters, TOKENS[:15], 50, 7)
    assert alone == pytest.approx(evaluate(task.net, parameters, TOKENS[:15], 1, 7), rel=1e-12)
    two = evaluate(task.net, parameters, TOKENS[:16], 50, 7)
    assert two == pytest.approx(evaluate(task.net, parameters, TOKENS[:16], 2, 7), rel=1e-12)
    with pytest.raises(L0GateError, match=r"^a text of one token has nothing to predict$"):
        evaluate(task.net, parameters, TOKENS[:1], 1, 7)
