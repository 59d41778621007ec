"""The training loop: how it starts, its steps, and evaluation."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from cli_runs import NUMPY, TOKENS, make_task, run_all, same

from l0gate import L0GateError
from l0gate.cli._adam import Adam
from l0gate.cli._batches import chunks, streams
from l0gate.cli._training import (
    NotFiniteError,
    Task,
    Training,
    calibration_moments,
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
    # With gates it stays at its peak until the neurons are chosen.
    assert schedule(0.01, 0.6) == 0.5
    assert schedule(0.02, 0.6) == schedule(0.6, 0.6) == 1.0
    assert schedule(0.8, 0.6) == pytest.approx(0.5)
    assert schedule(1.0, 0.6) == pytest.approx(0.0)
    assert schedule(0.5, 1.0) == 1.0


def test_a_start_has_all_that_a_training_needs() -> None:
    task = make_task()
    training = start(task)
    assert training.step == 0
    assert training.rng == NUMPY.rng(4)
    same(
        training.parameters, task.net.init(np.random.default_rng(3), input_size=5, sizes=task.sizes)
    )
    assert task.pruner is not None
    near = task.pruner.init(training.parameters, 3)
    assert training.gates is not None
    for axis, log_alpha in training.gates["log_alpha"].items():
        # Wide open, and as far from one another as the pruner sets them.
        assert log_alpha.dtype == np.float32
        shift = log_alpha - near["log_alpha"][axis]
        np.testing.assert_allclose(shift, shift[0], atol=1e-5)
        sampled = task.pruner.hard_concrete.sample(log_alpha[:1], np.linspace(0.001, 0.999, 999))
        assert np.mean(sampled == 1) == pytest.approx(0.95, abs=0.01)
    same({**training.gates, "log_alpha": 0}, {**near, "log_alpha": 0})
    magnitude = make_task(method="magnitude")
    assert magnitude.pruner is not None
    same(start(magnitude).gates, magnitude.pruner.init(training.parameters, 3))
    assert set(training.adam.first) == set(training.parameters)
    assert training.gate_adam is not None
    assert set(training.gate_adam.second) == set(training.gates["log_alpha"])
    plain = start(make_task(gated=False))
    assert plain.gates is plain.gate_adam is plain.rng is None
    training.finish()
    assert training.adam == Adam({}, {})
    assert training.gate_adam is training.rng is training.carry is None


WAYS = ["dense", None, "gradual_magnitude", GroupLasso(0.05)]


def made(way: Any, **changes: Any) -> tuple[Task, Training]:
    """A task of 30 steps, dense or pruned in some way, and its training in float64."""
    task = make_task(way != "dense", steps=30, method=None if way == "dense" else way, **changes)
    training = start(task)
    training.parameters = {n: a.astype(float) for n, a in training.parameters.items()}
    training.adam = Adam.start(NUMPY, training.parameters)
    if task.pruner is not None:
        training.gates = task.pruner.init(training.parameters, 3)
        training.gate_adam = Adam.start(NUMPY, training.gates["log_alpha"])
    return task, training


@pytest.mark.parametrize("way", WAYS)
def test_the_optimizers_get_the_gradient_of_the_objective(way: Any) -> None:
    """The objective is the loss of the gated net on the chunk, and the penalties."""
    task, training = made(way)
    for _ in zip(range(4), train(task, training), strict=False):
        pass
    pruner, progress = task.pruner, 5 / 30
    before = copy.deepcopy(training)
    x, y = streams(TOKENS, 2)[28:35], streams(TOKENS, 2)[29:36]
    taken: list[tuple[Any, Any, float]] = []
    for adam in filter(None, (training.adam, training.gate_adam)):
        adam.step = lambda _, *given: taken.append(given)  # type: ignore[method-assign]
    next(train(task, training))
    noise = None if pruner is None else pruner.noise(before.gates, before.rng)[0]

    def loss(parameters: Any, log_alpha: Any) -> float:
        if pruner is not None:
            state = {**before.gates, "log_alpha": log_alpha}  # type: ignore[dict-item]
            parameters = pruner.gate(parameters, state, noise)
        return float(task.net.loss(parameters, x, y, before.carry)[0])

    def objective(parameters: Any, log_alpha: Any) -> float:
        if pruner is None:
            return loss(parameters, log_alpha)
        state = {**before.gates, "log_alpha": log_alpha}  # type: ignore[dict-item]
        return loss(parameters, log_alpha) + float(pruner.penalty(state, progress, parameters))

    point: list[Any] = [before.parameters, {} if pruner is None else before.gates["log_alpha"]]  # type: ignore[index]
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(3):
        for k, (_, gradient, _) in enumerate(taken):
            way_to_go = {n: rng.normal(size=a.shape) for n, a in point[k].items()}
            values = []
            for step in (1e-6, -1e-6):
                moved = {n: a + step * way_to_go[n] for n, a in point[k].items()}
                values.append(objective(*(moved if i == k else p for i, p in enumerate(point))))
            wanted = (values[0] - values[1]) / 2e-6
            found = sum(float(np.sum(gradient[n] * way_to_go[n])) for n in way_to_go)
            if k == 1:
                assert found == pytest.approx(wanted, rel=1e-5, abs=1e-8)
            else:
                ratios.append(found / wanted)
    # The gradient of the weights may be shorter, in the same direction, where it was clipped.
    norm = math.sqrt(sum(float(np.sum(g * g)) for g in taken[0][1].values()))
    assert norm <= 1 + 1e-9
    assert ratios == pytest.approx(3 * [ratios[0]], rel=1e-4)
    assert ratios[0] == pytest.approx(1.0, rel=1e-4) if norm < 0.999 else ratios[0] <= 1.0001
    # What was given to move, and how far.
    assert taken[0][0] is training.parameters
    assert taken[0][2] == 0.01 * schedule(progress, 0.0 if pruner is None else 0.5)
    assert training.losses[-1] == pytest.approx(loss(*point), rel=1e-12)
    if pruner is None:
        assert (len(taken), training.size_fractions[-1]) == (1, 1.0)
        return
    assert taken[1][2] == 0.1
    assert (
        training.size_fractions[-1] == float(pruner.expected_size(before.gates)) / pruner.cost.total
    )
    same(training.gates, pruner.update(before.gates, progress, before.parameters))


@pytest.mark.parametrize("way", WAYS)
def test_every_step_moves_weights_and_gates(way: Any) -> None:
    task, training = made(way)
    assert training.gates is None or task.pruner is not None
    for k in range(1, 31):
        before = copy.deepcopy(training)
        next(train(task, training))
        assert (training.step, training.adam.steps) == (k, k)
        for name, array in training.parameters.items():
            assert (k == 30) == np.array_equal(array, before.parameters[name])  # its rate is 0
        if task.pruner is None or training.gates is None or before.gates is None:
            continue
        assert training.gate_adam is not None
        assert training.gate_adam.steps == k
        assert training.gates["progress"] == pytest.approx(k / 30)
        if way is None and k < 15:
            assert any(
                not np.array_equal(a, before.gates["log_alpha"][axis])
                for axis, a in training.gates["log_alpha"].items()
            )
        # One draw of noise a step, from where the last one ended.
        assert training.rng == task.pruner.noise(before.gates, before.rng)[1]
        # Neurons are chosen when the budget says so, and once.
        assert task.pruner.selected(training.gates) == (k >= 15)


def test_the_text_is_read_in_order_with_the_state_carried() -> None:
    task = make_task(gated=False, steps=30)
    read: list[Any] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(task.net, name)

        def loss_and_gradients(self, parameters: Any, x: Any, targets: Any, carry: Any) -> Any:
            found = task.net.loss_and_gradients(parameters, x, targets, carry)
            read.append((x, targets, carry, found[2]))
            return found

    watched = make_task(gated=False, steps=30, net=Watched())
    training = run_all(watched, start(watched))
    epoch = [pair for pair in chunks(streams(TOKENS, 2), 7) if len(pair[0]) == 7]
    assert len(epoch) == 14
    for k, (x, targets, carry, after) in enumerate(read):
        same([x, targets], list(epoch[k % 14]))
        if k % 14 == 0:
            assert carry is None
        else:
            assert carry is read[k - 1][3]
        assert after is not None
    assert training.carry is read[-1][3]


def test_the_selection_knows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    assert task.pruner is not None
    given: list[Any] = []
    select = task.pruner.select

    def watch(gates: Any, parameters: Any, moments: Any) -> Any:
        given.append(parameters)
        return select(gates, parameters, moments=moments)

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


def test_the_teacher_reads_the_same_text_with_its_own_state() -> None:
    """Its outputs, beside the targets, are what a pass over the text from its start gives."""
    net = make_task().net
    sizes = {"embedding": 4, "rnn": 6, "decoder": 5}
    teacher = net.init(np.random.default_rng(9), input_size=5, sizes=sizes)
    given: list[Any] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(net, name)

        def loss_and_gradients(self, *args: Any, **options: Any) -> Any:
            given.append(options)
            return net.loss_and_gradients(*args, **options)

    for gated in (True, False):
        given.clear()
        task = make_task(gated, steps=16, net=Watched(), teacher=teacher)
        training = run_all(task, start(task))
        whole, _ = net.apply(teacher, streams(TOKENS, 2)[:98])
        for k, options in enumerate(given):
            at = k % 14 * 7
            assert options["teacher_weight"] == 0.75
            np.testing.assert_allclose(options["teacher"], whole[at : at + 7], atol=1e-6)
        assert training.teacher_carry is not None
        training.finish()
        assert training.teacher_carry is None


def test_a_method_that_needs_data_gets_the_text_and_reconstructs() -> None:
    task = make_task(steps=20, method="spectral")
    assert task.pruner is not None
    training = start(task)
    for _ in train(task, training):
        assert training.gates is not None
        if task.pruner.selected(training.gates):
            break
    kept = task.pruner.kept(training.gates)
    assert sum(map(len, kept.values())) < sum(task.pruner.sizes.values())
    for name in task.pruner.layout.readers("h0"):
        dropped = np.setdiff1d(np.arange(task.pruner.sizes["h0"]), kept["h0"])
        assert not training.parameters[name][:, dropped].any()
    run_all(task, training)
    small, _ = task.pruner.shrink(training.parameters, training.gates)
    assert np.isfinite(evaluate(task.net, small, TOKENS, 2, 8))


def test_moments_of_the_text() -> None:
    task = make_task(steps=5, method="spectral")
    found = calibration_moments(task, start(task))
    table = start(task).parameters["embedding.weight"].astype(float)
    x = streams(task.tokens, task.batch)[:-1]
    wanted = np.einsum("tbi,tbj->ij", table[x], table[x])
    sums = found["x", "rnn.weight_ih_l0"]
    np.testing.assert_allclose(sums[:-1, :-1], wanted, rtol=1e-8)
    assert sums[-1, -1] == x.size
