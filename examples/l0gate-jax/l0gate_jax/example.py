"""Train an LSTM in JAX on Python's help topics, character by character; prune it; certify it."""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import l0gate
from l0gate_jax import lstm

BATCH, LENGTH = 32, 64
RATE, GATE_RATE = 4e-3, 0.06  # gates need a larger rate, to follow the budget's multipliers


# The text --------------------------------------------------------------------------------------


def read_text() -> tuple[np.ndarray, np.ndarray, int]:
    """Training tokens, held-out tokens (the last tenth), and the size of the vocabulary."""
    topics = importlib.import_module("pydoc_data.topics").topics
    text = "\n".join(topics[name] for name in sorted(topics))
    vocabulary = {character: i for i, character in enumerate(sorted(set(text)))}
    tokens = np.array([vocabulary[character] for character in text], np.int32)
    border = len(tokens) * 9 // 10
    return tokens[:border], tokens[border:], len(vocabulary)


def streams(tokens: np.ndarray, batch: int) -> np.ndarray:
    """The tokens as parallel streams, (time, batch)."""
    steps = len(tokens) // batch
    rows: np.ndarray = tokens[: steps * batch].reshape(batch, steps).T
    return rows


# Training --------------------------------------------------------------------------------------


def adam(values: Any, gradients: Any, moments: Any, count: Any, rate: Any) -> tuple[Any, Any]:
    """One step of Adam over a tree of arrays; `count` starts at 1. Returns values and moments."""
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate = rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    values = jax.tree.map(
        lambda x, m, v: x - rate * m / (jnp.sqrt(v) + 1e-8), values, first, second
    )
    return values, (first, second)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Training:
    """The state of training, all that a step changes; a JAX pytree."""

    parameters: lstm.Parameters
    gates: dict[str, Any]  # the pruner's state; empty for the dense model
    moments: tuple[Any, ...]  # Adam's, of the parameters and of the gates
    carried: lstm.State
    teacher_carried: lstm.State | None  # the state of the teacher, if there is one
    key: jax.Array


def start(
    pruner: l0gate.Pruner | None,
    parameters: lstm.Parameters,
    key: jax.Array,
    teacher: lstm.Parameters | None = None,
) -> Training:
    """The state of training before the first step; without a pruner, of the dense model."""
    key, own = jax.random.split(key)
    gates = {"log_alpha": {}} if pruner is None else pruner.init(parameters, own)
    nothing = [jax.tree.map(jnp.zeros_like, tree) for tree in (parameters, gates["log_alpha"])]
    moments = tuple((zeros, zeros) for zeros in nothing)
    carried = lstm.empty_state(parameters, BATCH)
    teacher_carried = None if teacher is None else lstm.empty_state(teacher, BATCH)
    return Training(parameters, gates, moments, carried, teacher_carried, key)


def make_step(
    pruner: l0gate.Pruner | None, teacher: lstm.Parameters | None = None
) -> Callable[..., tuple[Training, jax.Array]]:
    """The compiled function of a training step; without a pruner, of the dense model.

    The outputs of `teacher`, a trained model, are soft targets beside y.
    """

    def objective(
        trained: Any, now: Training, noise: Any, x: Any, y: Any, soft: Any, progress: Any
    ) -> Any:
        parameters, log_alpha = trained
        gates, penalty = {**now.gates, "log_alpha": log_alpha}, 0.0
        if pruner is not None:
            parameters = pruner.gate(parameters, gates, noise)
            penalty = pruner.penalty(gates, progress)
        scores, carried = lstm.apply(parameters, x, now.carried)
        task = lstm.loss(scores, y) if soft is None else lstm.soft_loss(scores, y, soft)
        return task + penalty, (task, carried)

    @jax.jit
    def step(now: Training, x: Any, y: Any, count: Any, progress: Any) -> Any:
        noise, key = (None, now.key) if pruner is None else pruner.noise(now.gates, now.key)
        trained = (now.parameters, now.gates["log_alpha"])
        soft, teacher_carried = None, None
        if teacher is not None:
            soft, teacher_carried = lstm.apply(teacher, x, now.teacher_carried)
        gradients, (task, carried) = jax.grad(objective, has_aux=True)(
            trained, now, noise, x, y, soft, progress
        )
        fade = jnp.clip(4.0 * (1.0 - progress), 0.02, 1.0)  # falls over the last quarter
        of_parameters, of_gates = now.moments
        parameters, of_parameters = adam(
            trained[0], gradients[0], of_parameters, count, RATE * fade
        )
        log_alpha, of_gates = adam(trained[1], gradients[1], of_gates, count, GATE_RATE)
        gates = {**now.gates, "log_alpha": log_alpha}
        if pruner is not None:
            gates = pruner.update(gates, progress)
        return Training(
            parameters, gates, (of_parameters, of_gates), carried, teacher_carried, key
        ), task

    return step


def train(
    pruner: l0gate.Pruner | None,
    parameters: lstm.Parameters,
    tokens: np.ndarray,
    steps: int,
    key: jax.Array,
    label: str,
    teacher: lstm.Parameters | None = None,
) -> Training:
    """Train for `steps` steps on streams whose state is carried from chunk to chunk."""
    now, step = start(pruner, parameters, key, teacher), make_step(pruner, teacher)
    began = time.perf_counter()
    budget = None if pruner is None else pruner.budget
    stream = streams(tokens, BATCH)
    chunks = (len(stream) - 1) // LENGTH
    for count in range(1, steps + 1):
        at, progress = (count - 1) % chunks * LENGTH, count / steps
        x, y = stream[at : at + LENGTH], stream[at + 1 : at + 1 + LENGTH]
        now, task = step(now, x, y, float(count), progress)
        # The neurons that stay are selected here, and trained for the rest of the steps.
        if budget and pruner and progress >= budget.settle and not pruner.selected(now.gates):
            now = replace(now, gates=pruner.select(now.gates, now.parameters))
        if count % max(1, steps // 8) == 0:
            size = ""
            if budget and pruner:
                share = float(pruner.expected_size(now.gates)) / pruner.cost.total
                size = f", {share:6.1%} of {budget.of} (aim {pruner.target(progress):.1%})"
            seconds = time.perf_counter() - began
            bits = float(task) / math.log(2)
            print(f"{label} {count:5}/{steps}: {bits:.3f} bits{size}, {seconds:.0f} s", flush=True)
    return now


# Measuring -------------------------------------------------------------------------------------


def bits_per_character(parameters: lstm.Parameters, tokens: np.ndarray) -> float:
    """The loss in bits on held-out tokens, read as 64 parallel streams."""
    stream = jnp.asarray(streams(tokens, 64))
    scores, _ = jax.jit(lstm.apply)(parameters, stream[:-1])
    return float(lstm.loss(scores, stream[1:])) / math.log(2)


def milliseconds(models: Sequence[lstm.Parameters], batch: int) -> list[float]:
    """The median time of each model on 256 time steps; the models take turns."""
    run = jax.jit(lambda parameters, tokens: lstm.apply(parameters, tokens)[0])
    tokens = jnp.zeros((256, batch), jnp.int32)
    times: list[list[float]] = [[] for _ in models]
    for _ in range(16):
        for parameters, own in zip(models, times, strict=True):
            began = time.perf_counter()
            run(parameters, tokens).block_until_ready()
            own.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(own[1:]) for own in times]  # the first compiles


def certify(
    pruner: l0gate.Pruner,
    now: Training,
    small: lstm.Parameters,
    kept: dict[str, np.ndarray],
    tokens: np.ndarray,
) -> Any:
    """Compare outputs and states of the gated and the small model on held-out text."""

    @jax.jit
    def run(parameters: lstm.Parameters, x: jax.Array) -> Any:
        scores, state = lstm.apply(parameters, x)
        return scores, {"h": list(state)}

    inputs = [tokens[i * 400 : (i + 1) * 400].reshape(100, 4) for i in range(4)]
    return pruner.certify(run, now.parameters, now.gates, small, kept, inputs)


def count(parameters: lstm.Parameters, names: Sequence[str] | None = None) -> str:
    """The number of entries of the parameters of these names, or of all, as text."""
    return f"{sum(parameters[name].size for name in names or parameters):,}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a dense and a gated model, shrink and certify the gated one, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000, help="for each of the two models")
    parser.add_argument("--hidden", type=int, default=160)
    parser.add_argument("--budget", type=float, default=0.2, help="share of recurrent parameters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="PATH", help="write the small net for l0gate.load")
    options = parser.parse_args(arguments)

    tokens, held_out, vocabulary = read_text()
    print(f"Python's help topics: {len(tokens):,} characters, {len(held_out):,} held out")
    key, own = jax.random.split(jax.random.key(options.seed))
    fresh = lstm.init(own, vocabulary, 48, options.hidden)
    pruner = l0gate.Pruner(
        lstm.LAYOUT, l0gate.Budget(parameters=options.budget, of="recurrent"), backend="jax"
    )
    dense = train(None, fresh, tokens, options.steps, key, "dense").parameters
    now = train(pruner, fresh, tokens, options.steps, key, "gated", teacher=dense)
    gated = pruner.gate(now.parameters, now.gates)
    small, kept = pruner.shrink(now.parameters, now.gates)
    certificate = certify(pruner, now, small, kept, held_out)

    models = (dense, gated, small)
    recurrent = lstm.LAYOUT.recurrent
    rows = [
        ("", "dense", "gated", "small"),
        ("embedding", *(str(p["embedding"].shape[1]) for p in models)),
        ("hidden", *(str(p["lstm.recurrent"].shape[0]) for p in models)),
        ("parameters", *(count(p) for p in models)),
        ("recurrent parameters", *(count(p, recurrent) for p in models)),
        ("bits per character", *(f"{bits_per_character(p, held_out):.3f}" for p in models)),
    ]
    for batch in (1, 32):
        speeds = milliseconds((dense, small), batch)
        shown = [f"{speed:.2f}" for speed in speeds]
        rows.append((f"ms for 256 steps, batch {batch}", shown[0], "", shown[1]))
    print()
    for name, *cells in rows:
        print(f"{name:<28}" + "".join(f"{cell:>10}" for cell in cells))
    print()
    print(certificate)
    if options.save is not None:
        l0gate.save(options.save, lstm.numpy_net(small))
        print(f"written to {options.save}; `l0gate.load` runs it with NumPy alone")


if __name__ == "__main__":
    main()
