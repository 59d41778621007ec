"""The gate state of a `Pruner`: a dict of arrays, made here and checked here."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, zeros
from l0gate._hard_concrete import JITTER, HardConcrete

#: "log_alpha" and "mask" by axis, "multipliers", "progress", "forced": see `Pruner`.
State = dict[str, Any]


def fresh_state(
    gates: HardConcrete,
    sizes: Mapping[str, int],
    frozen: Container[str],
    rng: Any,
    like: Array,
    backend: Backend,
) -> State:
    """A new gate state: log_alpha (n,) is the initial value plus noise; frozen axes have mask 1.

    log_alpha is float64 if `like` is, else float32.
    """
    like = backend.cast(like, "float64" if backend.dtype(like) == "float64" else "float32")
    if isinstance(rng, (int, np.integer)):
        rng = backend.rng(int(rng))
    start = gates.initial_log_alpha(gates.initial)
    log_alpha: dict[str, Array] = {}
    mask: dict[str, Array] = {}
    for axis, size in sizes.items():
        u, rng = backend.uniform(rng, (size,), like)
        log_alpha[axis] = gates.clamp(start + JITTER * u, backend)
        mask[axis] = zeros(backend, (size,), like, 1.0 if axis in frozen else -1.0)
    return {
        "log_alpha": log_alpha,
        "mask": mask,
        "multipliers": zeros(backend, (2,), like),
        "progress": zeros(backend, (1,), like),
        "forced": zeros(backend, (2,), like),
    }


def with_log_alpha(state: State, given: Mapping[str, np.ndarray], backend: Backend) -> State:
    """The state with another log_alpha (n,) for some axes."""
    log_alpha = dict(state["log_alpha"])
    for axis, values in given.items():
        log_alpha[axis] = to_device(backend, values, log_alpha[axis])
    return {**state, "log_alpha": log_alpha}


def to_device(backend: Backend, values: np.ndarray, like: Array) -> Array:
    """Host values in the dtype and on the device of `like`."""
    return backend.cast(backend.asarray(values, like), backend.dtype(like))


def to_host(backend: Backend, arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Copy the arrays, one per axis, to the host as NumPy arrays."""
    return {axis: backend.to_numpy(values) for axis, values in arrays.items()}
