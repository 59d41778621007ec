"""The gate state of a `Pruner`: a dict of arrays, made here and checked here."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, zeros
from l0gate._errors import L0GateError, check
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
    """Gates at their initial value, apart by a little noise; nothing is decided but frozen axes.

    log_alpha is float64 where `like` is, else float32.
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


def with_log_alpha(
    state: State, given: Mapping[str, Any], frozen: Container[str], backend: Backend
) -> State:
    """The state with the log_alpha that a user gave for some axes, checked."""
    check(isinstance(given, Mapping), f"`log_alpha` is {given!r}; it must map axes to arrays")
    log_alpha = dict(state["log_alpha"])
    free = [axis for axis in log_alpha if axis not in frozen]
    for axis, values in given.items():
        check(axis in free, f"`log_alpha` names the axis {axis!r}; gates are on {', '.join(free)}")
        host = backend.to_numpy(values) if backend.owns(values) else values
        try:
            array = np.array(host, dtype=float)
        except (TypeError, ValueError):
            raise L0GateError(
                f"`log_alpha[{axis!r}]` is {values!r}; it must be an array of numbers"
            ) from None
        (size,) = log_alpha[axis].shape
        check(
            array.shape == (size,),
            f"`log_alpha[{axis!r}]` has shape {array.shape}; the axis has {size} neurons",
        )
        check_log_alpha(axis, array)
        log_alpha[axis] = to_device(backend, array, log_alpha[axis])
    return {**state, "log_alpha": log_alpha}


def check_log_alpha(axis: str, values: np.ndarray) -> None:
    """Refuse a log_alpha that is not finite, naming its axis and first bad neuron."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise L0GateError(
            f"`log_alpha[{axis!r}]` is {values[bad[0]]} at neuron {bad[0]}"
            f" ({len(bad)} of {len(values)} are not finite); it must be finite"
        )


def to_device(backend: Backend, values: np.ndarray, like: Array) -> Array:
    """Host values in the dtype and on the device of `like`."""
    return backend.cast(backend.asarray(values, like), backend.dtype(like))


def to_host(backend: Backend, arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The arrays on the host, by axis."""
    return {axis: backend.to_numpy(values) for axis, values in arrays.items()}
