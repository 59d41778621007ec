"""The parts of the command line, each alone and in this process."""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import os
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rich.progress
from rich.console import Console
from rich.text import Text

import l0gate
from l0gate import Budget, L0GateError, Pruner
from l0gate._chain import Chain
from l0gate.cli import _checkpoint, _measure, _screen
from l0gate.cli._sample import sample
from l0gate.cli._screen import Screen, figures
from l0gate.cli._signals import StoppedError, stop_signals
from l0gate.cli._text import chunks, steps_per_epoch, streams
from l0gate.cli._training import (
    Adam,
    NotFiniteError,
    Task,
    Training,
    evaluate,
    schedule,
    start,
    train,
)
from l0gate.methods import GroupLasso

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
NUMPY = l0gate.get_backend("numpy")
LAYERS = [
    {"type": "embedding", "name": "embedding"},
    {"type": "lstm", "name": "rnn"},
    {"type": "linear", "name": "decoder"},
]
TOKENS = np.random.default_rng(0).integers(5, size=200)


def make_task(gated: bool = True, steps: int = 12, method: Any = None, **changes: Any) -> Task:
    net = NUMPY.net(LAYERS)
    pruner = None
    if gated:
        chain = Chain(LAYERS, False)
        budget = Budget(parameters=0.5, warmup=0.2, settle=0.5)
        pruner = Pruner(chain.layout, budget, backend=NUMPY, method=method, freeze=chain.frozen)
    options: dict[str, Any] = {
        "backend": NUMPY,
        "net": net,
        "sizes": {"embedding": 3, "rnn": 4, "decoder": 5},
        "pruner": pruner,
        "tokens": TOKENS,
        "vocabulary": 5,
        "steps": steps,
        "batch": 2,
        "length": 7,
        "seed": 3,
        "rate": 0.01,
        "gate_rate": 0.1,
    }
    return Task(**{**options, **changes})


def run_all(task: Task, training: Training) -> Training:
    for _ in train(task, training):
        pass
    return training


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, (tuple, list)):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


# Training -------------------------------------------------------------------------------------


def test_adam_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=3)}
    adam = Adam.start(NUMPY, arrays)
    assert adam.steps == 0
    first, second, wanted = np.zeros(3), np.zeros(3), arrays["w"].copy()
    for t in range(1, 4):
        slope = rng.normal(size=3)
        adam.step(NUMPY, arrays, {"w": slope}, 0.1)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        # The faster order of computation at the end of section 2.
        rate = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        wanted = wanted - rate * first / (np.sqrt(second) + 1e-8)
    assert adam.steps == 3
    np.testing.assert_allclose(arrays["w"], wanted, rtol=1e-12)
    still = {"w": np.ones(1)}
    Adam.start(NUMPY, still).step(NUMPY, still, {"w": np.zeros(1)}, 0.1)
    assert still["w"] == 1.0  # nothing is divided by 0


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


@pytest.mark.parametrize(
    ("tokens", "steps"), [(17, 0), (18, 1), (33, 1), (34, 2), (35, 2), (50, 3)]
)
def test_an_epoch_has_a_next_token_for_every_one(tokens: int, steps: int) -> None:
    assert steps_per_epoch(tokens, 2, 8) == steps
    inputs = [x for x, _ in chunks(streams(np.arange(tokens), 2), 8) if len(x) == 8]
    assert len(inputs) == steps


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


# Checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 5, 12])
def test_a_training_goes_on_from_its_checkpoint(
    gated: bool, stop_after: int, tmp_path: Path
) -> None:
    task = make_task(gated)
    whole = run_all(task, start(task))
    part = start(task)
    for _, _ in zip(range(stop_after), train(task, part), strict=False):
        pass
    part.seconds = 2.5
    job = {"steps": 12, "cell": "lstm"}
    _checkpoint.write(tmp_path, job, {"gated": part, "gated2": start(task)}, NUMPY)
    read = _checkpoint.read(tmp_path, job, NUMPY)
    assert list(read) == ["gated", "gated2"]
    assert read["gated"].seconds == 2.5
    assert read["gated"].adam.steps == stop_after
    assert read["gated2"].step == 0
    found = run_all(task, read["gated"])
    for name in ("parameters", "gates", "rng", "carry", "losses", "shares"):
        same(getattr(found, name), getattr(whole, name))
    for name in ("adam", "gate_adam"):
        one, other = getattr(found, name), getattr(whole, name)
        assert (one is None) == (other is None)
        if one is not None:
            same(vars(one), vars(other))


def test_a_finished_training_keeps_its_result_alone(tmp_path: Path) -> None:
    task = make_task()
    done = run_all(task, start(task))
    done.finish()
    _checkpoint.write(tmp_path, {}, {"gated": done}, NUMPY)
    found = _checkpoint.read(tmp_path, {}, NUMPY)["gated"]
    same(found.parameters, done.parameters)
    same(found.gates, done.gates)
    assert found.adam == Adam({}, {})
    assert found.gate_adam is found.rng is found.carry is None
    assert found.step == 12


def test_a_checkpoint_of_another_job_says_how_they_differ(tmp_path: Path) -> None:
    _checkpoint.write(tmp_path, {"cell": "lstm", "seed": 0}, {}, NUMPY)
    assert _checkpoint.read(tmp_path, {"cell": "lstm", "seed": 0}, NUMPY) == {}
    message = r"another job: cell was 'lstm' and is now 'gru'; new was None and is now 1\. Resume"
    with pytest.raises(L0GateError, match=message):
        _checkpoint.read(tmp_path, {"cell": "gru", "seed": 0, "new": 1}, NUMPY)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / _checkpoint.FILE
    with pytest.raises(L0GateError, match=r"`--resume`: '.*npz' cannot be read: No such file"):
        _checkpoint.read(tmp_path, {}, NUMPY)
    path.write_bytes(b"PK nothing")
    with pytest.raises(L0GateError, match=r"`--resume`: '.*checkpoint.npz' "):
        _checkpoint.read(tmp_path, {}, NUMPY)
    net = NUMPY.net([{"type": "linear", "name": "out"}])
    sizes = {"out": 2}
    l0gate.save(path, net.bind(net.init(np.random.default_rng(0), input_size=3, sizes=sizes)))
    with pytest.raises(L0GateError, match="is no l0gate checkpoint 1"):
        _checkpoint.read(tmp_path, {}, NUMPY)


def test_only_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".{_checkpoint.FILE}.x1y2"
    for path in (left, tmp_path / _checkpoint.FILE, tmp_path / ".other"):
        path.write_text("")
    _checkpoint.tidy(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {_checkpoint.FILE, ".other"}


# Samples and speed ----------------------------------------------------------------------------


class Counting:
    """A net over an alphabet that likes one token after another, and says what it was asked."""

    def __init__(self, vocabulary: list[str], unit: str) -> None:
        self.saved = SimpleNamespace(metadata={"vocabulary": vocabulary, "unit": unit})
        self.asked: list[tuple[int, Any]] = []

    def step(self, token: int, state: Any = None) -> tuple[np.ndarray, Any]:
        self.asked.append((token, state))
        size = len(self.saved.metadata["vocabulary"])
        logits = np.zeros(size, np.float32)
        logits[(token + 1) % size] = 2.0
        return logits, len(self.asked)


def sampled(net: Any, **changes: Any) -> list[str]:
    options: dict[str, Any] = {"prompt": "", "length": 4, "temperature": 0, "seed": 0}
    return list(sample(net, **{**options, **changes}))


def test_a_sample_of_characters() -> None:
    net = Counting(["c", "\n", "a", "b"], "character")
    assert sampled(net, prompt="ca") == ["c", "a", "b", "c", "\n", "a"]
    # A new line before the prompt; the state is carried from step to step.
    assert [token for token, _ in net.asked] == [1, 0, 2, 3, 0, 1, 2]
    assert [state for _, state in net.asked] == [None, 1, 2, 3, 4, 5, 6]
    assert sampled(Counting(["x", "a"], "character"), length=1) == ["a"]  # 0 where there is none
    unknown = Counting(["a", "b", "\ufffd"], "character")
    assert sampled(unknown, prompt="?b", length=1) == ["?", "b", "\ufffd"]
    assert [token for token, _ in unknown.asked] == [0, 2, 1, 2]


def test_a_sample_of_words() -> None:
    net = Counting(["two", "<eos>", "<unk>", "one"], "word")
    assert sampled(net, prompt=" one what\n") == ["one ", "what ", "one ", "two ", "\n", "<unk> "]
    assert [token for token, _ in net.asked] == [1, 3, 2, 3, 0, 1, 2]


def test_samples_are_drawn_as_the_net_predicts() -> None:
    net = Counting(["a", "b", "c"], "character")
    for temperature in (0.5, 1.0, 4.0):
        drawn = sampled(net, length=1500, temperature=temperature, seed=1)
        assert drawn == sampled(net, length=1500, temperature=temperature, seed=1)
        assert drawn != sampled(net, length=1500, temperature=temperature, seed=2)
        likely = sum("abc".index(b) == ("abc".index(a) + 1) % 3 for a, b in pairwise(drawn))
        weight = math.exp(2.0 / temperature)
        assert likely / 1499 == pytest.approx(weight / (weight + 2), abs=0.05)
    # Large figures overflow nothing.
    net.step = lambda token, state=None: (np.array([1e4, 0, -1e4], np.float32), 0)  # type: ignore[method-assign]
    assert sampled(net, length=2, temperature=0.01) == ["a", "a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, "`--length` is 0; it must be at least 1"),
        ({"temperature": -0.5}, "`--temperature` is -0.5; it must be a number of at least 0"),
        ({"temperature": math.inf}, "`--temperature` is inf; it must be a number of at least 0"),
        ({"seed": -1}, "`--seed` is -1; it must be at least 0"),
        ({"prompt": "a?"}, "`--prompt` holds '?', which the model's vocabulary of 2 lacks"),
    ],
)
def test_samples_that_cannot_be_drawn(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as error:
        sampled(Counting(["a", "b"], "character"), **changes)
    assert str(error.value) == message
    net = SimpleNamespace(saved=SimpleNamespace(metadata={}))
    with pytest.raises(L0GateError) as error:
        sampled(net)
    assert str(error.value) == (
        "the model has no vocabulary in its metadata; `l0gate train` writes one"
    )


def test_the_speed_is_a_median_of_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nets on a clock that they move themselves."""
    now, runs = [0.0], []

    class Net:
        def __init__(self, layers: Any) -> None:
            assert layers == "layers"

        def bind(self, parameters: Any) -> Any:
            # A slow round now and then must not count.
            self.costs = {"dense": itertools.cycle([6.0, 6.0, 90.0]), "small": iter([1.5] * 99999)}[
                parameters
            ]
            self.name = parameters
            return self

        def spend(self, kind: str, given: Any) -> None:
            runs.append((self.name, kind, given))
            now[0] += next(self.costs) if kind == "whole" else 0.01 * len(self.name)

        def __call__(self, x: np.ndarray) -> None:
            self.spend("whole", x)

        def step(self, token: Any, state: Any) -> tuple[Any, Any]:
            self.spend("step", (int(token), state))
            return None, (state or 0) + 1

    monkeypatch.setattr("l0gate.reference.Net", Net)
    monkeypatch.setattr(importlib.util, "find_spec", {"numba": "a spec"}.get)
    monkeypatch.setattr(_measure.time, "perf_counter", lambda: now[0])
    found = _measure.speedup("layers", "dense", "small", np.arange(10))  # type: ignore[arg-type]
    assert found.pop("engine") == "numpy with numba"
    assert found == {
        "batch": 1,
        "sequence_length": 256,
        "latency_step": pytest.approx(1.0),
        "latency_step_microseconds": pytest.approx({"dense": 5e4, "small": 5e4}),
        "sequence": 4.0,
        "sequence_microseconds": pytest.approx({"dense": 6e6 / 256, "small": 1.5e6 / 256}),
    }
    steps = [run for run in runs if run[1] == "step"]
    # Both in turns: once to warm up, then 21 rounds; the state carried, the text repeated.
    assert len(steps) == 2 * 22 * 256
    assert [name for name, _, (_, state) in steps if state is None] == ["dense", "small"] * 22
    assert [given for _, _, given in steps[:12]] == [(k % 10, k or None) for k in range(12)]
    wholes = [given for _, kind, given in runs if kind == "whole"]
    assert len(wholes) == 2 * 22
    np.testing.assert_array_equal(wholes[0], np.resize(np.arange(10), 256)[:, None])
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    again = _measure.speedup("layers", "dense", "small", np.arange(10))  # type: ignore[arg-type]
    assert again["engine"] == "numpy"


# Screen and signals ---------------------------------------------------------------------------


def screen(terminal: bool) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, force_terminal=terminal, width=120, soft_wrap=True)), out


def training_at(step: int, gated: bool = True) -> Any:
    gates: Any = {} if gated else None
    losses = [math.log(2) * (1 + k) for k in range(step)]
    shares = [0.5] * (step - 1) + [0.251]
    return SimpleNamespace(step=step, losses=losses, shares=shares, gates=gates)


def test_figures_are_of_the_last_fifty_steps() -> None:
    assert figures(training_at(0)) == ""
    assert figures(training_at(3)) == "2.000 bits, size 25%"
    assert figures(training_at(3, gated=False)) == "2.000 bits"
    assert figures(training_at(100, gated=False)) == "75.500 bits"


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(_screen.time, "monotonic", lambda: clock[0])
    shown, out = screen(terminal=False)
    with shown.follow("dense", 2000) as show:
        show(training_at(1000))
        for step, now in (
            (1001, 109.0),
            (1002, 110.0),
            (1003, 119.0),
            (1500, 120.0),
            (2000, 121.0),
        ):
            clock[0] = now
            show(training_at(step))
    with shown.working("measuring [b]"):
        pass
    with shown.follow("gated", 3) as show:
        show(training_at(0))
    # Every ten seconds, and at the end; the time left from the pace since the start.
    assert out.getvalue().splitlines() == [
        "dense: 2,000 steps, from 1,000",
        "dense: 1,002/2,000  977.500 bits, size 25%  4990 s left",
        "dense: 1,500/2,000  1475.500 bits, size 25%  20 s left",
        "dense: 2,000/2,000  1975.500 bits, size 25%  0 s left",
        "measuring [b] ...",
        "gated: 3 steps",
    ]


def test_a_bar_in_a_terminal() -> None:
    shown, out = screen(terminal=True)
    with shown.follow("dense", 20) as show:
        show(training_at(0))
        show(training_at(7))
    with shown.working("measuring the speed"):
        pass
    text = out.getvalue()
    for part in ("dense", "7/20", "4.000 bits", "left", "measuring the speed"):
        assert part in text
    assert "..." not in text


def test_the_columns_of_the_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with _screen._bar(console) as progress:
        task = progress.add_task("dense", total=2000, figures="")
        progress.update(task, completed=500, figures="1.234 bits")
        kinds = [type(column) for column in progress.columns]
        shown = [column(progress.tasks[0]) for column in progress.columns]
    assert kinds == [
        rich.progress.SpinnerColumn,
        rich.progress.TextColumn,
        rich.progress.BarColumn,
        rich.progress.MofNCompleteColumn,
        rich.progress.TextColumn,
        rich.progress.TimeElapsedColumn,
        rich.progress.TextColumn,
        rich.progress.TimeRemainingColumn,
    ]
    texts = [text.plain if isinstance(text, Text) else "" for text in shown]
    assert (texts[1], texts[3], texts[4], texts[6]) == ("dense ", " 500/2000", "1.234 bits", "left")
    assert progress.live.refresh_per_second == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_acts(number: signal.Signals) -> None:
    asked: list[int] = []

    def own(received: int, frame: Any) -> None:
        asked.append(received)

    before = signal.signal(number, own)
    try:
        with stop_signals() as stop:
            assert stop.requested == 0
            os.kill(os.getpid(), number)
            assert stop.requested == number
            assert asked == []
            os.kill(os.getpid(), number)
            assert asked == [number]
        assert signal.getsignal(number) is own
        with stop_signals():
            assert signal.getsignal(number) is not own
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


def test_stopping_says_where() -> None:
    error = StoppedError(15, "gated", 1234)
    assert str(error) == "stopped in the gated net after step 1,234"
    assert error.exit_code == 143
