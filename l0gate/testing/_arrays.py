"""Checks of a backend's arrays: values, dtypes, scalars, broadcasting, device, purity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate.testing._compare import TOLERANCE, expect, gate_dtypes, give, snapshot, unchanged
from l0gate.testing._operations import BROADCASTING, EXTREMES, OPERATIONS, SCALARS, X, Y

KNOWN_CAPABILITIES = {"autodiff", "models", "nets"}
NO_ARRAYS = (1.5, [1.0], (1.0,), {"a": 1.0}, None, "x", object())
HOST_VALUES: tuple[Any, ...] = (X, X[0, 0], np.zeros((0, 3)), X.T, X[:, ::-1], np.arange(-3, 3))
NESTED = [[1.0, 2.0], [3.0, 4.0]]
TAKEN: Sequence[tuple[int, list[int]]] = ((0, [1]), (1, [0, 2]), (1, [0, 1, 2]), (0, []))
FIRST_TWO = np.arange(2)


def check_description(backend: Backend) -> None:
    """`name`, `capabilities` and `dtypes` are set, to values that the library knows."""
    assert isinstance(backend, Backend), f"{backend!r} is no l0gate.Backend"
    named = isinstance(backend.name, str) and backend.name
    assert named, f"`name` is {backend.name!r}; it must be text"
    unknown = set(backend.capabilities) - KNOWN_CAPABILITIES
    assert not unknown, f"`capabilities` has {sorted(unknown)}; known: {sorted(KNOWN_CAPABILITIES)}"
    unknown = set(backend.dtypes) - set(TOLERANCE)
    assert not unknown, f"`dtypes` has {sorted(unknown)}; known: {sorted(TOLERANCE)}"
    assert {"float32", "float64"} <= set(backend.dtypes), (
        f"`dtypes` is {backend.dtypes}; gates need float32, and certificates float64 (inside"
        ' `precision("float64")`, where a framework has it switched off)'
    )


def check_ownership(backend: Backend) -> None:
    """`owns` is true of the framework's arrays, and false of everything else."""
    for value in NO_ARRAYS:
        assert not backend.owns(value), f"`owns` is true of {value!r}"
    array = give(backend, X, "float32")
    for what, owned in {"x": array, "x[0]": array[0], "x.sum()": array.sum()}.items():
        assert backend.owns(owned), f"`owns` is false of {what}, where x is the framework's array"
    assert not backend.owns_model(array), f"`owns_model` is true of an array: {array!r}"


def check_conversion(backend: Backend) -> None:
    """`asarray` and `to_numpy` keep values, shape and dtype; `asarray` copies NumPy arrays."""
    for value in HOST_VALUES:
        for dtype in ("float32", "float64") if np.asarray(value).dtype.kind == "f" else ("int32",):
            with backend.precision(dtype):
                given = np.asarray(value, dtype)
                given.flags.writeable = False
                array = backend.asarray(given)
                expect(backend, array, given, "to_numpy(asarray(x))", dtype, (0.0, 0.0))
    mine = _aligned(X.astype(np.float32))
    array = backend.asarray(mine)
    expect(backend, backend.asarray(array), X.astype(np.float32), "asarray(asarray(x))", "float32")
    if not backend.owns(mine):  # an array of the framework itself may be returned as it is
        mine += 1.0
        what = "asarray(x) shares memory with x: a later change of x"
        expect(backend, array, X.astype(np.float32), what, "float32")
    expect(backend, backend.asarray(NESTED), np.array(NESTED), "asarray of nested lists")


def _aligned(values: np.ndarray) -> np.ndarray:
    """A writable copy that is aligned to 64 bytes; some frameworks do not copy such arrays."""
    memory = np.zeros(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def check_dtypes(backend: Backend) -> None:
    """`cast` gives every declared dtype, and computing with Python floats keeps it."""
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            x, y = give(backend, X, dtype), give(backend, Y, dtype)
            expect(backend, x, X, f"cast(x, {dtype!r})", dtype)
            for text, operation in OPERATIONS.items():
                found = operation.compute(backend.xp, x, y)
                has, wanted = backend.dtype(found), dtype
                if operation.compute(np, X, Y).dtype.kind == "b":
                    wanted = "bool"
                assert has == wanted, f"{text} has dtype {has}, but should have {wanted}"
            for other in backend.dtypes:
                with backend.precision(other):
                    expect(
                        backend,
                        backend.cast(x, other),
                        X,
                        f"cast from {dtype}",
                        other,
                        TOLERANCE[max(dtype, other, key=lambda d: TOLERANCE[d][0])],
                    )


def check_values(backend: Backend) -> None:
    """Every operation that the algorithm uses gives NumPy's values."""
    _compare_operations(backend, [t for t in OPERATIONS if t not in (*BROADCASTING, *SCALARS)])


def check_scalars(backend: Backend) -> None:
    """Python floats work as constants; sums and single entries are arrays of shape ()."""
    _compare_operations(backend, SCALARS)


def check_broadcasting(backend: Backend) -> None:
    """Arrays of different shapes are broadcast by NumPy's rules."""
    _compare_operations(backend, BROADCASTING)


def _compare_operations(backend: Backend, names: Sequence[str]) -> None:
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            x, y = give(backend, X, dtype), give(backend, Y, dtype)
            host = [backend.to_numpy(array).astype(float) for array in (x, y)]
            for text in names:
                wanted = OPERATIONS[text].compute(np, *host)
                found = OPERATIONS[text].compute(backend.xp, x, y)
                kept = None if wanted.dtype.kind == "b" else dtype
                expect(backend, found, wanted, f"{text} in {dtype}", kept)


def check_extreme_values(backend: Backend) -> None:
    """Tiny and huge values keep their precision; infinity and NaN follow IEEE arithmetic."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype), np.errstate(all="ignore"):
            for text, *given in EXTREMES:
                host = [values.astype(dtype) for values in given]
                wanted = OPERATIONS[text].compute(np, *host)
                found = OPERATIONS[text].compute(backend.xp, *(give(backend, v) for v in host))
                what = f"{text} for x, y = {[values.tolist() for values in given]}"
                # Only a relative tolerance: an absolute one would hide errors of tiny values.
                expect(backend, found, wanted, what, tolerance=(TOLERANCE[dtype][0], 0.0))


def check_take(backend: Backend) -> None:
    """`take` gives the slices at sorted NumPy indices, as an array that shares no memory."""
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            x = give(backend, X, dtype)
            host = backend.to_numpy(x)
            for axis, index in TAKEN:
                positions = np.array(index, dtype=np.int64)
                found = backend.take(x, positions, axis)
                wanted = np.take(host, positions, axis).astype(float)
                expect(backend, found, wanted, f"take(x, {index}, {axis})", dtype)
    x = give(backend, X, "float32")
    kept = backend.take(x, FIRST_TWO, 0)
    try:
        x[0, 0] = 5.0
    except (TypeError, ValueError, RuntimeError):
        return  # arrays of this framework cannot be changed, so sharing memory is safe
    what = "take(x, [0, 1], 0) shares memory with x: a later change of x"
    expect(backend, kept, X, what, "float32")


def check_device(backend: Backend, *others: Array) -> None:
    """An array made with `like`, or from another array, is on the device of that array.

    The kit runs this check on the default device only, where it cannot fail. To check others, call
    it from your own tests with `others`: arrays of shape (2, 3) on other devices.
    """
    default = give(backend, X, "float32")
    for like in (default, *others):
        calls: Sequence[tuple[str, tuple[Any, ...]]] = (
            ("asarray", (X, like)),
            ("asarray", (default, like)),
            ("uniform", (backend.rng(0), X.shape, like)),
            ("take", (like, FIRST_TWO, 1)),
            ("stop_gradient", (like,)),
            ("cast", (like, backend.dtype(like))),
        )
        wanted = _device(like)
        for name, arguments in calls:
            made = getattr(backend, name)(*arguments)
            has = _device(made[0] if name == "uniform" else made)
            assert has == wanted, f"{name} gives an array on {has}, but should on {wanted}"


def _device(array: Array) -> Any:
    return getattr(array, "device", None)  # some frameworks have no devices


def check_purity(backend: Backend) -> None:
    """No operation or method changes the arrays that it is given."""
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            _check_purity(backend, dtype)


def _check_purity(backend: Backend, dtype: str) -> None:
    x, y = give(backend, X, dtype), give(backend, Y, dtype)
    host, index = X.copy(), FIRST_TWO.copy()
    given = [x, y, host, index]
    before = snapshot(backend, given)
    for text, operation in OPERATIONS.items():
        operation.compute(backend.xp, x, y)
        unchanged(backend, given, before, text)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("owns", (x,)),
        ("dtype", (x,)),
        ("take", (x, index, 1)),
        ("asarray", (host, x)),
        ("to_numpy", (x,)),
        ("stop_gradient", (x,)),
    ]
    if dtype in gate_dtypes(backend):
        calls.append(("uniform", (backend.rng(0), X.shape, x)))
    for name, arguments in calls:
        getattr(backend, name)(*arguments)
        unchanged(backend, given, before, name)
    for other in backend.dtypes:
        with backend.precision(other):
            backend.cast(x, other)
            unchanged(backend, given, before, "cast")
    if dtype in gate_dtypes(backend) and "autodiff" in backend.capabilities:
        backend.value_and_grad(lambda p: backend.xp.sum(p["x"] * p["x"]))({"x": x})
        unchanged(backend, given, before, "value_and_grad")
