"""The certificate: how far the small model is from the gated one, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate._tensor import Array, Backend

TOLERANCE = 1e-10  # float64, relative to max(1, max|y|)
TOLERANCE_FLOAT32 = 1e-5  # likewise


@dataclass(frozen=True)
class Certificate:
    """Proof that shrinking changed nothing, from outputs and states on random sequences.

    `max_abs_difference` is decided in float64 and at most `tolerance`; the difference in float32
    is at most `tolerance_float32`. `kept` maps an axis to the indices of
    the neurons that stayed, `dense_sizes` to the number there were. `forced_open` and
    `forced_closed` count neurons decided against their gate.
    """

    max_abs_difference: float
    max_abs_difference_float32: float
    max_abs_output: float
    sequences: int
    kept: Mapping[str, np.ndarray] = field(repr=False)
    dense_sizes: Mapping[str, int] = field(repr=False)
    forced_open: int = 0
    forced_closed: int = 0

    @property
    def tolerance(self) -> float:
        """The bound on `max_abs_difference`: 1e-10 max(1, max|y|)."""
        return TOLERANCE * max(1.0, self.max_abs_output)

    @property
    def tolerance_float32(self) -> float:
        """The bound on `max_abs_difference_float32`: 1e-5 max(1, max|y|)."""
        return TOLERANCE_FLOAT32 * max(1.0, self.max_abs_output)

    def __str__(self) -> str:
        sizes = ", ".join(f"{a} {self.dense_sizes[a]} -> {len(i)}" for a, i in self.kept.items())
        forced = (
            f"; {self.forced_open} neurons forced open, {self.forced_closed} closed"
            if self.forced_open or self.forced_closed
            else ""
        )
        return (
            f"certified on {self.sequences} random sequences: outputs and states differ by at most"
            f" {self.max_abs_difference:.1e} in float64 (allowed {self.tolerance:.1e}) and"
            f" {self.max_abs_difference_float32:.1e} in float32; {sizes}{forced}"
        )


def certify(
    backend: Backend,
    apply: Callable[..., Any],
    folded: Mapping[str, Array],
    small: Any,
    kept: Mapping[str, np.ndarray],
    dense_sizes: Mapping[str, int],
    inputs: Iterable[Any],
    *,
    apply_small: Callable[..., Any] | None = None,
    forced: tuple[int, int] = (0, 0),
) -> Certificate:
    """Run both models on every input, in float64 and in float32: see `Pruner.certify`."""
    worst = {"float64": 0.0, "float32": 0.0}
    largest, count = 0.0, 0
    for given in inputs:
        count += 1
        for dtype in worst:
            data = _cast(backend, given, dtype)
            expected = apply(_cast(backend, folded, dtype), data)
            if apply_small is None:
                found = apply(_cast(backend, small, dtype), data)
            else:
                found = apply_small(small, data, dtype)
            for y, other in _pairs(backend, expected, found, kept):
                check(
                    y.shape == other.shape,
                    f"the small model returns shape {other.shape} where the gated one, with its"
                    f" neurons mapped, returns {y.shape}",
                )
                if y.size == 0:
                    continue
                difference = float(np.max(np.abs(y - other)))
                # NaN must fail every comparison below, so it may not be lost in max().
                worst[dtype] = np.nan if np.isnan(difference) else max(worst[dtype], difference)
                largest = max(largest, float(np.max(np.abs(y))))
    check(count > 0, "`inputs` is empty; a certificate needs at least one input")
    certificate = Certificate(
        max_abs_difference=worst["float64"],
        max_abs_difference_float32=worst["float32"],
        max_abs_output=largest,
        sequences=count,
        kept={axis: np.asarray(index) for axis, index in kept.items()},
        dense_sizes=dict(dense_sizes),
        forced_open=forced[0],
        forced_closed=forced[1],
    )
    if not (
        certificate.max_abs_difference <= certificate.tolerance
        and certificate.max_abs_difference_float32 <= certificate.tolerance_float32
    ):
        raise L0GateError(
            "the small model does not equal the gated one: they differ by"
            f" {certificate.max_abs_difference:.3e} in float64 (allowed"
            f" {certificate.tolerance:.3e}) and {certificate.max_abs_difference_float32:.3e} in"
            f" float32 (allowed {certificate.tolerance_float32:.3e}); the layout misses a"
            " reader, or the model does more with a pruned axis than the layout says"
        )
    return certificate


def _cast(backend: Backend, value: Any, dtype: str) -> Any:
    """Every floating point array inside nested dicts, lists and tuples, in another dtype."""
    if isinstance(value, Mapping):
        return {key: _cast(backend, item, dtype) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(backend, item, dtype) for item in value)
    if backend.owns(value) and "float" in backend.dtype(value):
        return backend.cast(value, dtype)
    return value


def _pairs(
    backend: Backend, expected: Any, found: Any, kept: Mapping[str, np.ndarray]
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Matching host arrays in float64: outputs as they are, states with the neurons kept."""
    expected, expected_states = expected if isinstance(expected, tuple) else (expected, {})
    found, found_states = found if isinstance(found, tuple) else (found, {})
    yield _host(backend, expected), _host(backend, found)
    check(
        set(expected_states) == set(found_states),
        f"the models return states of the axes {sorted(expected_states)} and"
        f" {sorted(found_states)}",
    )
    for axis, states in expected_states.items():
        others = found_states[axis]
        states, others = (s if isinstance(s, (list, tuple)) else [s] for s in (states, others))
        for state, other in zip(states, others, strict=True):
            yield _host(backend, state)[..., kept[axis]], _host(backend, other)


def _host(backend: Backend, x: Array) -> np.ndarray:
    return backend.to_numpy(backend.cast(x, "float64"))
