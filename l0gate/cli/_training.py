"""The training loop: one path for every backend, in pure functions over named arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError, check
from l0gate._pruner import Pruner, State
from l0gate.cli._text import chunks, steps_per_epoch, streams

_BETAS, _EPSILON = (0.9, 0.99), 1e-8
_LARGEST_NORM = 1.0  # of the gradient
_RISE = 0.02  # the part of training over which the learning rate rises


class NotFiniteError(L0GateError):
    """The loss or its gradient is NaN or infinite."""


@dataclass
class Adam:
    """Adam over named arrays (Kingma and Ba, arXiv 1412.6980), in place."""

    first: dict[str, Array]
    second: dict[str, Array]
    steps: int = 0

    @classmethod
    def start(cls, backend: Backend, arrays: Mapping[str, Array]) -> Adam:
        zeros = backend.xp.zeros_like
        first, second = ({name: zeros(array) for name, array in arrays.items()} for _ in range(2))
        return cls(first, second)

    def step(
        self, backend: Backend, arrays: dict[str, Array], slopes: Mapping[str, Array], rate: float
    ) -> None:
        """Move the arrays against their slopes."""
        self.steps += 1
        unbias = [1 - beta**self.steps for beta in _BETAS]
        scale = rate * math.sqrt(unbias[1]) / unbias[0]
        for name, slope in slopes.items():
            first, second = self.first[name], self.second[name]
            first *= _BETAS[0]
            first += (1 - _BETAS[0]) * slope
            second *= _BETAS[1]
            second += (1 - _BETAS[1]) * slope * slope
            arrays[name] -= scale * first / (backend.xp.sqrt(second) + _EPSILON)


@dataclass(frozen=True)
class Task:
    """What to train, on what, and for how long: nothing here changes during training."""

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


@dataclass
class Training:
    """All that changes while a net trains."""

    parameters: dict[str, Array]
    adam: Adam
    gates: State | None = None
    gate_adam: Adam | None = None
    rng: Any = None
    carry: Any = None
    losses: list[float] = field(default_factory=list)  # nats per token, one per step
    shares: list[float] = field(default_factory=list)  # expected size over dense size
    seconds: float = 0.0

    @property
    def step(self) -> int:
        return len(self.losses)

    def finish(self) -> None:
        """Drop what only further steps would need."""
        self.adam, self.gate_adam, self.rng, self.carry = Adam({}, {}), None, None, None


def start(task: Task) -> Training:
    """A fresh net: the same seed gives the same numbers in every phase and backend."""
    rng = np.random.default_rng(task.seed)
    parameters = task.net.init(rng, input_size=task.vocabulary, sizes=task.sizes)
    training = Training(parameters, Adam.start(task.backend, parameters))
    if task.pruner is not None:
        training.gates = task.pruner.init(parameters, task.seed)
        training.gate_adam = Adam.start(task.backend, training.gates["log_alpha"])
        training.rng = task.backend.rng(task.seed + 1)
    return training


def train(task: Task, training: Training) -> Iterator[None]:
    """Train to the end from wherever `training` stands; yields after every step."""
    data = streams(task.tokens, task.batch)
    epoch = steps_per_epoch(len(task.tokens), task.batch, task.length)
    while training.step < task.steps:
        position = training.step % epoch
        if position == 0:
            training.carry = None
        begin = position * task.length
        chunk = data[begin : begin + task.length + 1]
        _step(task, training, chunk[:-1], chunk[1:])
        yield


def _step(task: Task, training: Training, x: np.ndarray, targets: np.ndarray) -> None:
    progress = (training.step + 1) / task.steps
    pruner, gates = task.pruner, training.gates
    if pruner is None or gates is None:
        loss, slopes, carry = task.net.loss_and_gradients(
            training.parameters, x, targets, training.carry
        )
        share = 1.0
    else:
        noise, training.rng = pruner.noise(gates, training.rng)
        folded = pruner.gate(training.parameters, gates, noise)
        loss, slopes, carry = task.net.loss_and_gradients(folded, x, targets, training.carry)
        slopes, gate_slopes = pruner.pullback(training.parameters, gates, noise, slopes)
        for name, slope in pruner.parameter_gradient(gates, training.parameters).items():
            slopes[name] = slopes[name] + slope
        share = float(pruner.expected_size(gates)) / pruner.cost.total
    norm = _norm(task.backend, slopes)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NotFiniteError(f"the loss is {loss} and the norm of its gradient {norm}")
    clip = min(1.0, _LARGEST_NORM / max(norm, 1e-12))
    slopes = {name: clip * slope for name, slope in slopes.items()}
    training.adam.step(task.backend, training.parameters, slopes, task.rate * schedule(progress))
    if pruner is not None and gates is not None and training.gate_adam is not None:
        penalty = pruner.penalty_gradient(gates, progress)
        gate_slopes = {axis: slope + penalty[axis] for axis, slope in gate_slopes.items()}
        training.gate_adam.step(task.backend, gates["log_alpha"], gate_slopes, task.gate_rate)
        gates = pruner.update(gates, progress, training.parameters)
        settle = Budget.settle if pruner.budget is None else pruner.budget.settle
        if progress >= settle and not pruner.selected(gates):
            gates = pruner.select(gates, training.parameters)
        training.gates = gates
    training.carry = carry
    training.losses.append(loss)
    training.shares.append(share)


def schedule(progress: float) -> float:
    """The learning rate over its peak: a short rise, then half a cosine down to 0."""
    return min(1.0, progress / _RISE) * 0.5 * (1 + math.cos(math.pi * progress))


def evaluate(
    net: Any, parameters: Mapping[str, Array], tokens: np.ndarray, batch: int, length: int
) -> float:
    """Nats per token over a text, in up to `batch` parallel streams that carry their state."""
    data = streams(tokens, max(1, min(batch, len(tokens) // (length + 1))))
    total, count, carry = 0.0, 0, None
    for x, targets in chunks(data, length):
        loss, carry = net.loss(parameters, x, targets, carry)
        total += loss * x.size
        count += x.size
    check(count > 0, "a text of one token has nothing to predict")
    return total / count


def _norm(backend: Backend, arrays: Mapping[str, Array]) -> float:
    return math.sqrt(sum(float(backend.xp.sum(a * a)) for a in arrays.values()))
