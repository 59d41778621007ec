"""The certificate: the measured difference between the small model and the gated one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate._errors import L0GateError, check

TOLERANCE = 1e-10  # in float64, relative to max(1, max|y|), y all outputs and states
TOLERANCE_FLOAT32 = 1e-5  # the same in float32


@dataclass(frozen=True)
class Certificate:
    """The small and the gated model have the same outputs and states on all inputs tried.

    It says nothing about the dense model from before the training with gates.

    `max_abs_difference` is the largest difference in float64, at most `tolerance`; in float32 it is
    at most `tolerance_float32`. In addition, every channel (index of the last dimension) meets the
    same tolerance relative to its own largest value. `kept` maps an axis to the indices of the kept
    neurons, `dense_sizes` to its number of neurons before. To meet the budget, `forced_open`
    neurons were kept with a closed gate, and `forced_closed` removed with an open one.
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
            f"certified on {self.sequences} input{'s' * (self.sequences != 1)}: outputs and states"
            " differ by at most"
            f" {self.max_abs_difference:.1e} in float64 (allowed {self.tolerance:.1e}) and"
            f" {self.max_abs_difference_float32:.1e} in float32; {sizes}{forced}"
        )


def compare_models(
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
    """Run the model with `folded` parameters, and the small model, on every input; compare them.

    Raises if they differ too much. `Pruner.certify` says what the arguments are.
    """
    found = {"float64": _Difference(TOLERANCE), "float32": _Difference(TOLERANCE_FLOAT32)}
    count = compared = 0
    for given in inputs:
        count += 1
        for dtype, difference in found.items():
            with backend.precision(dtype):
                data = _cast(backend, given, dtype)
                expected = apply(_cast(backend, folded, dtype), data)
                if apply_small is None:
                    result = apply(_cast(backend, small, dtype), data)
                else:
                    result = apply_small(small, data, dtype)
                outputs, states = _pairs(backend, expected, result, kept)
            # The states of an empty sequence are the initial ones: they prove nothing.
            compared += sum(y.size for y, _ in outputs or states)
            for y, other in [*outputs, *states]:
                difference.add(y, other)
    exact, rounded = found["float64"], found["float32"]
    check(count > 0, "`inputs` is empty; a certificate needs at least one input")
    check(compared > 0, "`inputs` led to no output at all, so nothing was compared")
    certificate = Certificate(
        max_abs_difference=exact.largest,
        max_abs_difference_float32=rounded.largest,
        max_abs_output=exact.output,
        sequences=count,
        kept={axis: np.asarray(index) for axis, index in kept.items()},
        dense_sizes=dict(dense_sizes),
        forced_open=forced[0],
        forced_closed=forced[1],
    )
    if exact.passed and rounded.passed:
        return certificate
    figures = (
        f"they differ by {exact.largest:.3e} in float64 (allowed {certificate.tolerance:.3e}) and"
        f" by {rounded.largest:.3e} in float32 (allowed {certificate.tolerance_float32:.3e})"
    )
    raise L0GateError(
        f"the small model equals the gated one in float64, but not in float32: {figures}; the"
        " model itself magnifies rounding, so try shorter sequences"
        if exact.passed
        else f"the small model does not equal the gated one: {figures}; the layout misses a"
        " reader, or the model does more with a pruned axis than the layout says"
    )


@dataclass
class _Difference:
    """Collects the largest difference over all outputs, and whether all channels agree.

    `Certificate` says within which tolerance they must agree.
    """

    tolerance: float
    largest: float = 0.0
    output: float = 0.0
    passed: bool = True

    def add(self, y: np.ndarray, other: np.ndarray) -> None:
        check(
            y.shape == other.shape,
            f"the small model returns shape {other.shape} where the gated one, with its"
            f" neurons mapped, returns {y.shape}",
        )
        if y.size == 0:
            return
        finite = np.isfinite(y)
        # Infinite values (masked scores) must agree exactly; NaN never does.
        if not np.array_equal(y[~finite], other[~finite]):
            self.passed, self.largest = False, np.nan
            return
        with np.errstate(invalid="ignore"):
            difference = np.where(finite, np.abs(y - other), 0.0)
        values = np.where(finite, np.abs(y), 0.0)
        scale = np.maximum(1.0, values.max(axis=tuple(range(max(0, y.ndim - 1)))))
        self.passed = self.passed and bool((difference <= self.tolerance * scale).all())
        # Not max(): a NaN, once seen, must stay.
        self.largest = float(np.maximum(self.largest, difference.max()))
        self.output = max(self.output, float(values.max()))


def _cast(backend: Backend, value: Any, dtype: str) -> Any:
    """Cast every floating point array in `value`, which may be nested dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: _cast(backend, item, dtype) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_cast(backend, item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if backend.owns(value) and "float" in backend.dtype(value):
        return backend.cast(value, dtype)
    # The dtype of a NumPy input must not decide in which dtype the model computes.
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(dtype)
    return value


_Pairs = list[tuple[np.ndarray, np.ndarray]]


def _pairs(
    backend: Backend, expected: Any, found: Any, kept: Mapping[str, np.ndarray]
) -> tuple[_Pairs, _Pairs]:
    """Pair the arrays of the gated model with those of the small one, as NumPy arrays in float64.

    Returns the pairs of outputs and the pairs of states. From the gated model's states, the
    neurons that were removed are left out.
    """
    (outputs, expected_states), (others, found_states) = (
        _split(backend, result) for result in (expected, found)
    )
    check(
        len(outputs) == len(others),
        f"the gated model returns {len(outputs)} outputs, the small one {len(others)}",
    )
    check(
        set(expected_states) == set(found_states) and set(expected_states) <= set(kept),
        f"the models return states of the axes {sorted(expected_states)} and"
        f" {sorted(found_states)}; the layout has {sorted(kept)}",
    )
    pairs = [(_host(backend, y), _host(backend, x)) for y, x in zip(outputs, others, strict=True)]
    mapped = []
    for axis, given in expected_states.items():
        states, small = (_listed(s) for s in (given, found_states[axis]))
        check(
            len(states) == len(small),
            f"the models return {len(states)} and {len(small)} states of the axis {axis!r}",
        )
        for state, other in zip(states, small, strict=True):
            mapped.append((_host(backend, state)[..., kept[axis]], _host(backend, other)))
    return pairs, mapped


def _split(backend: Backend, result: Any) -> tuple[list[Array], Mapping[str, Any]]:
    outputs, states = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    outputs = outputs if isinstance(outputs, list) else [outputs]
    check(
        all(backend.owns(y) for y in outputs) and isinstance(states, Mapping),
        f"`apply` returned {type(result).__name__}; it must return an array, or an array and a"
        " dict of states by axis; a list of arrays may take the place of the array",
    )
    return outputs, states


def _listed(arrays: Any) -> list[Array]:
    return list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]


def _host(backend: Backend, x: Array) -> np.ndarray:
    return backend.to_numpy(x).astype(np.float64)
