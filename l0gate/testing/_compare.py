"""How the checks compare a backend's arrays with NumPy's, and say what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend

# dtype -> (relative, absolute) tolerance
TOLERANCE = {
    "float64": (1e-10, 1e-12),
    "float32": (1e-4, 1e-6),
    "float16": (1e-2, 1e-3),
    "bfloat16": (5e-2, 1e-2),
}


class NotClaimed(Exception):
    """Raised by the check of a capability that the backend does not declare."""


def claim(backend: Backend, capability: str) -> None:
    """Raise `NotClaimed` unless the backend declares the capability."""
    if capability not in backend.capabilities:
        raise NotClaimed(capability)


def gate_dtypes(backend: Backend) -> list[str]:
    """The dtypes that gates may have: float32 and float64, where the backend declares them."""
    return [dtype for dtype in ("float32", "float64") if dtype in backend.dtypes]


def give(backend: Backend, values: Any, dtype: str | None = None) -> Array:
    """The values as an array of the backend, in the given dtype or their own.

    They are copied first, so that a faulty backend cannot change the test data.
    """
    array = backend.asarray(np.array(values))
    return array if dtype is None else backend.cast(array, dtype)


def give_all(backend: Backend, tree: Any, dtype: str) -> Any:
    """Nested dicts of NumPy arrays as nested dicts of the backend's arrays."""
    if isinstance(tree, Mapping):
        return {name: give_all(backend, value, dtype) for name, value in tree.items()}
    return give(backend, tree, dtype)


def expect(
    backend: Backend,
    found: Any,
    wanted: Any,
    what: str,
    dtype: str | None = None,
    tolerance: tuple[float, float] | None = None,
) -> None:
    """Assert that an array of the backend has these values, this shape and, if given, this dtype.

    Nested dicts, tuples and lists are compared entry by entry.
    """
    if isinstance(wanted, Mapping):
        keys = sorted(found) if isinstance(found, Mapping) else type(found).__name__
        assert keys == sorted(wanted), f"{what} has {keys}, but should have {sorted(wanted)}"
        for key in wanted:
            expect(backend, found[key], wanted[key], f"{what}[{key!r}]", dtype, tolerance)
        return
    if isinstance(wanted, (tuple, list)):
        assert len(found) == len(wanted), f"{what} has {len(found)} entries, not {len(wanted)}"
        for index, value in enumerate(wanted):
            expect(backend, found[index], value, f"{what}[{index}]", dtype, tolerance)
        return
    assert backend.owns(found), f"{what} is {type(found).__name__}, which the backend does not own"
    if dtype is not None:
        has = backend.dtype(found)
        assert has == dtype, f"{what} has dtype {has}, but should have {dtype}"
    values = backend.to_numpy(found)
    assert isinstance(values, np.ndarray), f"`to_numpy` of {what} gives {type(values).__name__}"
    wanted = np.asarray(wanted)
    assert values.shape == wanted.shape, (
        f"{what} has shape {values.shape}, but should have {wanted.shape}"
    )
    exact = wanted.dtype.kind not in "fc"
    relative, absolute = (0.0, 0.0) if exact else tolerance or TOLERANCE[dtype or "float64"]
    far = ~np.isclose(
        values.astype(float), wanted.astype(float), relative, absolute, equal_nan=True
    )
    if far.any():
        first = tuple(int(i) for i in np.argwhere(far)[0])
        at = f"[{', '.join(map(str, first))}]" if first else ""
        raise AssertionError(
            f"{what}{at} = {values[first]!s}, but should be {wanted[first]!s}"
            f" ({far.sum()} of {far.size} values differ)"
        )


def snapshot(backend: Backend, tree: Any) -> Any:
    """A copy on the host, for `unchanged` to compare with later."""
    if isinstance(tree, Mapping):
        return {name: snapshot(backend, value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [snapshot(backend, value) for value in tree]
    if isinstance(tree, np.ndarray) or backend.owns(tree):
        return np.array(tree if isinstance(tree, np.ndarray) else backend.to_numpy(tree))
    return tree


def unchanged(backend: Backend, tree: Any, before: Any, what: str) -> None:
    """Assert that the arrays of `tree` still equal the snapshot `before`."""
    if isinstance(before, dict):
        for name, value in before.items():
            unchanged(backend, tree[name], value, what)
    elif isinstance(before, list):
        for item, value in zip(tree, before, strict=True):
            unchanged(backend, item, value, what)
    elif isinstance(before, np.ndarray):
        now = tree if isinstance(tree, np.ndarray) else backend.to_numpy(tree)
        same = now.dtype == before.dtype and np.array_equal(now, before, equal_nan=True)
        assert same, f"{what} changed an array that it was given"
