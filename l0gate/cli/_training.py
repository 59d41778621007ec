"""The training loop: the same for every backend, in pure functions over named arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError, check
from l0gate._pruner import Pruner
from l0gate._state import State
from l0gate.cli._adam import Adam
from l0gate.cli._batches import chunks, steps_per_epoch, streams

_LARGEST_NORM = 1.0  # a larger gradient is scaled down to this norm
_RISE = 0.02  # the fraction of training over which the learning rate rises
_TAUGHT = 0.75  # the teacher's part of the loss
_OPEN = 4.54  # the first log_alpha: a sampled gate is then 1 with a probability of 0.95
_CALIBRATION = 100_000  # tokens, for methods that choose neurons on calibration data


class NotFiniteError(L0GateError):
    """The loss or its gradient is NaN or infinite."""


@dataclass(frozen=True)
class Task:
    """What to train, on what, and for how long: nothing here changes during training.

    `net` has the methods of `l0gate.reference.Net`. Without a `pruner` it has no gates. `teacher`
    has the parameters of a trained dense net. Three quarters of the loss are then the divergence
    from its outputs.
    """

    backend: Backend
    net: Any
    sizes: Mapping[str, Any]
    pruner: Pruner | None
    tokens: np.ndarray
    vocabulary: int
    steps: int
    batch: int
    length: int
    seed: int
    rate: float
    gate_rate: float
    teacher: Mapping[str, Array] | None = None


@dataclass
class Training:
    """Everything that changes while a net trains.

    `carry` is the recurrent state that the last chunk ended in; None at the start of the text.
    `teacher_carry` is the teacher's.
    """

    parameters: dict[str, Array]
    adam: Adam
    gates: State | None = None
    gate_adam: Adam | None = None
    rng: Any = None
    carry: Any = None
    teacher_carry: Any = None
    losses: list[float] = field(default_factory=list)  # nats per token, one per step
    size_fractions: list[float] = field(default_factory=list)  # expected size / dense size
    seconds: float = 0.0

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    def finish(self) -> None:
        """Free the optimizer states, the random generator and the recurrent states."""
        self.adam, self.gate_adam, self.rng = Adam({}, {}), None, None
        self.carry = self.teacher_carry = None


def start(task: Task) -> Training:
    """An untrained net. The same seed and sizes give the same weights in every backend."""
    rng = np.random.default_rng(task.seed)
    parameters = task.net.init(rng, input_size=task.vocabulary, sizes=task.sizes)
    training = Training(parameters, Adam.start(task.backend, parameters))
    if task.pruner is not None:
        training.gates = _open_gates(task.pruner, parameters, task.seed)
        training.gate_adam = Adam.start(task.backend, training.gates["log_alpha"])
        training.rng = task.backend.rng(task.seed + 1)
    return training


def _open_gates(pruner: Pruner, parameters: Mapping[str, Array], seed: int) -> State:
    """A new gate state. Trained gates start wide open, so that at first they hardly disturb."""
    state = pruner.init(parameters, seed)
    if not pruner.trains_gates:
        return state
    shift = _OPEN - pruner.hard_concrete.initial_log_alpha(pruner.hard_concrete.initial)
    log_alpha = {axis: values + shift for axis, values in state["log_alpha"].items()}
    return pruner.init(parameters, seed, log_alpha=log_alpha)


def train(task: Task, training: Training) -> Iterator[None]:
    """Train from the step that `training` has reached to the last; yields after every step."""
    data = streams(task.tokens, task.batch)
    epoch = steps_per_epoch(len(task.tokens), task.batch, task.length)
    while training.step < task.steps:
        position = training.step % epoch
        if position == 0:
            training.carry = training.teacher_carry = None
        begin = position * task.length
        chunk = data[begin : begin + task.length + 1]
        _step(task, training, chunk[:-1], chunk[1:])
        yield


def _step(task: Task, training: Training, x: np.ndarray, targets: np.ndarray) -> None:
    """Take one training step, of weights and gates, on inputs x and targets (time, batch)."""
    progress = (training.step + 1) / task.steps
    pruner, gates = task.pruner, training.gates
    gate_gradients: Mapping[str, Array] = {}
    soft: dict[str, Any] = {}
    if task.teacher is not None:
        outputs, training.teacher_carry = task.net.apply(task.teacher, x, training.teacher_carry)
        soft = {"teacher": outputs, "teacher_weight": _TAUGHT}
    if pruner is None or gates is None:
        loss, gradients, carry = task.net.loss_and_gradients(
            training.parameters, x, targets, training.carry, **soft
        )
        size_fraction = 1.0
    else:
        noise, training.rng = pruner.noise(gates, training.rng)
        folded = pruner.gate(training.parameters, gates, noise)
        loss, gradients, carry = task.net.loss_and_gradients(
            folded, x, targets, training.carry, **soft
        )
        gradients, gate_gradients = pruner.pullback(training.parameters, gates, noise, gradients)
        for name, penalty in pruner.parameter_gradient(gates, training.parameters).items():
            gradients[name] = gradients[name] + penalty
        size_fraction = float(pruner.expected_size(gates)) / pruner.cost.total
    norm = _norm(task.backend, gradients)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NotFiniteError(f"the loss is {loss} and the norm of its gradient {norm}")
    clip = min(1.0, _LARGEST_NORM / max(norm, 1e-12))
    gradients = {name: clip * gradient for name, gradient in gradients.items()}
    training.adam.step(
        task.backend, training.parameters, gradients, task.rate * schedule(progress, _cut(pruner))
    )
    if pruner is not None and gates is not None:
        training.gates = _gate_step(task, training, pruner, gates, gate_gradients, progress)
    training.carry = carry
    training.losses.append(loss)
    training.size_fractions.append(size_fraction)


def _gate_step(
    task: Task,
    training: Training,
    pruner: Pruner,
    gates: State,
    gradients: Mapping[str, Array],
    progress: float,
) -> State:
    """One optimizer step on log_alpha, for loss and penalty, and an update of the multipliers. Once
    progress reaches `Budget.settle`, choose the neurons to keep.

    A method that chooses on calibration data gets the text, and readers are then reconstructed.
    """
    assert training.gate_adam is not None
    penalty = pruner.penalty_gradient(gates, progress)
    total = {axis: gradient + penalty[axis] for axis, gradient in gradients.items()}
    training.gate_adam.step(task.backend, gates["log_alpha"], total, task.gate_rate)
    gates = pruner.update(gates, progress, training.parameters)
    if progress >= _cut(pruner) and not pruner.selected(gates):
        moments = calibration_moments(task, training) if pruner.method.needs_moments else None
        gates = pruner.select(gates, training.parameters, moments=moments)
        if moments is not None:
            kept = pruner.kept(gates)
            training.parameters = pruner.reconstruct(training.parameters, kept, moments)
    return gates


def calibration_moments(task: Task, training: Training) -> dict[tuple[str, str], np.ndarray]:
    """The second moments of all neurons on the first `_CALIBRATION` tokens, for `Pruner.select`.

    They are gathered in NumPy, whatever the backend.
    """
    from l0gate.reference import Net, second_moments

    net = Net(task.net.layers)
    parameters = {n: task.backend.to_numpy(array) for n, array in training.parameters.items()}
    found: dict[tuple[str, str], np.ndarray] = {}
    for x, _ in chunks(streams(task.tokens[:_CALIBRATION], task.batch), task.length):
        for key, sums in second_moments(net, parameters, x).items():
            found[key] = found[key] + sums if key in found else sums
    return found


def _cut(pruner: Pruner | None) -> float:
    """The progress at which neurons are chosen; 0 for a net without gates."""
    if pruner is None:
        return 0.0
    return Budget.settle if pruner.budget is None else pruner.budget.settle


def schedule(progress: float, cut: float = 0.0) -> float:
    """The learning rate over its peak: a short linear rise, then half a cosine down to 0.

    The cosine begins at `cut`, the progress at which neurons are chosen, so that the weights can
    still adapt to the choice.
    """
    falling = max(0.0, progress - cut) / max(1.0 - cut, 1e-9)
    return min(1.0, progress / _RISE) * 0.5 * (1 + math.cos(math.pi * falling))


def evaluate(
    net: Any, parameters: Mapping[str, Array], tokens: np.ndarray, batch: int, length: int
) -> float:
    """Nats per token over a text.

    The text runs in up to `batch` parallel streams, each of which carries its recurrent state
    from chunk to chunk.
    """
    data = streams(tokens, max(1, min(batch, len(tokens) // (length + 1))))
    total, count, carry = 0.0, 0, None
    for x, targets in chunks(data, length):
        loss, carry = net.loss(parameters, x, targets, carry)
        total += loss * x.size
        count += x.size
    check(count > 0, "a text of one token has nothing to predict")
    return total / count


def _norm(backend: Backend, arrays: Mapping[str, Array]) -> float:
    """The Euclidean norm of all arrays together."""
    return math.sqrt(sum(float(backend.xp.sum(a * a)) for a in arrays.values()))
