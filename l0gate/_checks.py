"""Checks of what a user gives a `Pruner`. Each raises `L0GateError`, naming the argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError, check
from l0gate._hard_concrete import HardConcrete
from l0gate.layout.layout import Layout
from l0gate.layout.solve import Slice


def check_options(layout: object, budget: object, strength: object, gates: object) -> None:
    """Refuse options of a `Pruner` that are of a wrong type or exclude each other."""
    check(isinstance(layout, Layout), f"`layout` is {layout!r}; it must be a Layout")
    check(
        budget is None or isinstance(budget, Budget),
        f"`budget` is {budget!r}; it must be a Budget, such as Budget(parameters=0.1)",
    )
    check(budget is None or strength is None, "give `budget` or `strength`, not both")
    check(
        strength is None or (isinstance(strength, (int, float)) and 0 <= strength < float("inf")),
        f"`strength` is {strength!r}; it must be a finite number of at least 0",
    )
    check(
        gates is None or isinstance(gates, HardConcrete),
        f"`gates` is {gates!r}; it must be a HardConcrete",
    )


def check_method_options(method: object, budget: object, gates: object) -> None:
    """Raise if `method` is not hard-concrete gates, and there is no budget or `gates` is given."""
    check(budget is not None, f"`method` is {method!r}, which needs a `budget`, the size to cut to")
    check(gates is None, f"give `gates` or `method`, not both; `method` is {method!r}")


def check_dtypes(slices: Sequence[Slice], backend: Backend) -> None:
    """Refuse integer parameters that read gated neurons: gates cannot be multiplied into them."""
    for name, pattern, _, value in slices:
        dtype = backend.dtype(value)
        check(
            "float" in dtype or not any(d.reads and d.axes for d in pattern.dimensions),
            f"parameter {name!r} has dtype {dtype}; one that reads gated neurons must be of"
            " floating point",
        )


def check_groups(
    option: str,
    groups: Sequence[Sequence[str]],
    axes: Sequence[str],
    sizes: Mapping[str, int] | None = None,
    frozen: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """The groups as tuples. Raises if an axis is unknown or in two groups, or if the axes of a
    group differ in size, or if only some of them are frozen."""
    check(
        isinstance(groups, (list, tuple)) and all(isinstance(g, (list, tuple)) for g in groups),
        f"`{option}` is {groups!r}; it must be lists of axes, of which there are {tuple(axes)}",
    )
    for axis in (axis for group in groups for axis in group):
        check(axis in axes, f"`{option}` names the axis {axis!r}; allowed: {tuple(axes)}")
        check(
            sum(axis == other for group in groups for other in group) == 1,
            f"`{option}` is {groups!r}, which names the axis {axis!r} twice",
        )
    for group in groups:
        if sizes is not None:
            check(
                len({sizes[axis] for axis in group}) == 1,
                f"`{option}` groups {group}, whose sizes differ: {[sizes[a] for a in group]}",
            )
        if frozen is not None:
            check(
                len({axis in frozen for axis in group}) == 1,
                f"`{option}` groups {group}, of which only some are frozen",
            )
    return tuple(tuple(group) for group in groups)


def check_kept(kept: Mapping[str, np.ndarray], open_now: Mapping[str, np.ndarray]) -> None:
    """Raise unless `kept` holds, for every axis, sorted indices that include all open neurons."""
    check(
        isinstance(kept, Mapping) and set(kept) == set(open_now),
        f"`kept` must give the indices of the axes {', '.join(open_now)}",
    )
    for axis, is_open in open_now.items():
        index = np.asarray(kept[axis])
        check(
            index.ndim == 1
            and index.dtype.kind in "iu"
            and index.size > 0
            and bool((np.diff(index) > 0).all())
            and index[0] >= 0
            and index[-1] < len(is_open),
            f"`kept[{axis!r}]` must be sorted indices of the axis's {len(is_open)} neurons",
        )
        left_out = np.array(is_open, dtype=bool)  # not setdiff1d, which imports numpy.ma
        left_out[index] = False
        missing = np.flatnonzero(left_out)
        check(
            len(missing) == 0,
            f"`kept[{axis!r}]` leaves out neurons whose gates are open: {missing.tolist()}",
        )


def check_scores(
    method: str, scores: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The scores (n,) per axis as NumPy arrays. Raises unless all are finite."""
    found = {}
    for axis, size in sizes.items():
        given = np.asarray(scores[axis], dtype=float) if axis in scores else None
        if given is None or given.shape != (size,) or not np.isfinite(given).all():
            raise L0GateError(
                f"`method` {method} scored axis {axis!r} with {given!r}; it must give"
                f" {size} finite numbers"
            )
        found[axis] = given
    return found


def given_log_alpha(
    given: Mapping[str, Any], sizes: Mapping[str, int], frozen: Sequence[str], backend: Backend
) -> dict[str, np.ndarray]:
    """The log_alpha (n,) that a user gave for some axes, as NumPy arrays. Raises on bad values."""
    check(isinstance(given, Mapping), f"`log_alpha` is {given!r}; it must map axes to arrays")
    prunable = [axis for axis in sizes if axis not in frozen]
    found = {}
    for axis, values in given.items():
        check(
            axis in prunable,
            f"`log_alpha` names the axis {axis!r}; gates are on {', '.join(prunable)}",
        )
        host = backend.to_numpy(values) if backend.owns(values) else values
        try:
            array = np.array(host, dtype=float)
        except (TypeError, ValueError):
            raise L0GateError(
                f"`log_alpha[{axis!r}]` is {values!r}; it must be an array of numbers"
            ) from None
        check(
            array.shape == (sizes[axis],),
            f"`log_alpha[{axis!r}]` has shape {array.shape}; the axis has {sizes[axis]} neurons",
        )
        check_log_alpha(axis, array)
        found[axis] = array
    return found


def check_log_alpha(axis: str, values: np.ndarray) -> None:
    """Refuse a log_alpha that is not finite, naming its axis and first bad neuron."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise L0GateError(
            f"`log_alpha[{axis!r}]` is {values[bad[0]]} at neuron {bad[0]}"
            f" ({len(bad)} of {len(values)} are not finite); it must be finite"
        )


def check_progress(progress: Any) -> bool:
    """Whether `progress` is a Python number, not an array; one outside [0, 1] raises."""
    number = isinstance(progress, (int, float, np.integer, np.floating))
    if number and not 0 <= progress <= 1:
        raise L0GateError(
            f"`progress` is {progress!r}; it must be in [0, 1], the fraction of training done"
        )
    return number
