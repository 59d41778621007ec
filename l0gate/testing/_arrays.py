"""Checks of a backend's arrays: values, dtypes, scalars, broadcasting, device, purity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0gate._tensor import Array, Backend
from l0gate.testing._compare import TOLERANCE, expect, gate_dtypes, give, snapshot, unchanged
from l0gate.testing._operations import BROADCASTING, OPERATIONS, SCALARS, X, Y

KNOWN_CAPABILITIES = {"autodiff", "models", "nets"}


def check_description(backend: Backend) -> None:
    """The backend says who it is: `name`, `capabilities` and `dtypes` that the library knows."""
    assert isinstance(backend, Backend), f"{backend!r} is no l0gate.Backend"
    assert isinstance(backend.name, str), f"`name` is {backend.name!r}"
    assert backend.name, "`name` is empty"
    unknown = set(backend.capabilities) - KNOWN_CAPABILITIES
    assert not unknown, f"`capabilities` has {sorted(unknown)}; known: {sorted(KNOWN_CAPABILITIES)}"
    unknown = set(backend.dtypes) - set(TOLERANCE)
    assert not unknown, f"`dtypes` has {sorted(unknown)}; known: {sorted(TOLERANCE)}"
    assert {"float32", "float64"} <= set(backend.dtypes), (
        f"`dtypes` is {backend.dtypes}; gates need float32, and certificates float64 (inside"
        ' `precision("float64")`, where a framework has it switched off)'
    )


def check_ownership(backend: Backend) -> None:
    """`owns` is true of the framework's arrays and of nothing else."""
    for value in (1.5, [1.0], (1.0,), {"a": 1.0}, None, "x", object()):
        assert not backend.owns(value), f"`owns` is true of {value!r}"
    array = give(backend, X.astype(np.float32))
    for what, owned in (("an array", array), ("a slice", array[0]), ("a sum", array.sum())):
        assert backend.owns(owned), f"`owns` is false of {what} of the framework"
    assert not backend.owns_model(array), "`owns_model` is true of an array"


def check_conversion(backend: Backend) -> None:
    """`asarray` and `to_numpy` keep values, shape and dtype, and copy what may be written to."""
    values: list[Any] = [X, X[0, 0], np.zeros((0, 3)), X.T, X[:, ::-1], np.arange(-3, 3)]
    for value in values:
        for dtype in ("float32", "float64") if np.asarray(value).dtype.kind == "f" else ("int32",):
            with backend.precision(dtype):
                given = np.asarray(value, dtype)
                given.flags.writeable = False
                array = backend.asarray(given)
                expect(backend, array, given, "to_numpy(asarray(x))", dtype, (0.0, 0.0))
    mine = _aligned(X.astype(np.float32))
    array = backend.asarray(mine)
    expect(backend, backend.asarray(array), mine, "asarray(asarray(x))", "float32")
    if not backend.owns(mine):  # an array of the framework itself may come back as it is
        mine += 1.0
        what = "asarray(x) shares memory with x: a later change of x"
        expect(backend, array, X.astype(np.float32), what, "float32")
    nested = [[1.0, 2.0], [3.0, 4.0]]
    expect(backend, backend.asarray(nested), np.array(nested), "asarray of nested lists")


def _aligned(values: np.ndarray) -> np.ndarray:
    """A writable copy at the start of a cache line, where some frameworks do not copy."""
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
    _compare(backend, [t for t in OPERATIONS if t not in (*BROADCASTING, *SCALARS)])


def check_scalars(backend: Backend) -> None:
    """Python floats work as constants, and sums and entries are arrays without dimensions."""
    _compare(backend, SCALARS)


def check_broadcasting(backend: Backend) -> None:
    """Arrays of different shapes meet by NumPy's rules."""
    _compare(backend, BROADCASTING)


def _compare(backend: Backend, names: Sequence[str]) -> None:
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
    """Tiny and huge values keep their digits; infinite ones and NaN follow IEEE arithmetic."""
    values = np.array([-np.inf, -800.0, 0.0, 800.0, np.inf, np.nan])
    operations = ("clip(x, 0.2, 0.7)", "isfinite(x)", "tanh(x)", "x < 0.5", "exp(x)")
    for dtype in ("float32", "float64"):
        with backend.precision(dtype), np.errstate(all="ignore"):
            x = give(backend, values, dtype)
            for text in operations:
                wanted = OPERATIONS[text].compute(np, values.astype(dtype), None)
                expect(backend, OPERATIONS[text].compute(backend.xp, x, None), wanted, text)
            # Relative to the value: log(1 + x) has lost most digits of these.
            tiny = np.array([-1e-3, 1e-3, -1e-5, 1e-5, 1e-6, 1e-8, 1e-30, 1e30, -1.0]).astype(dtype)
            found = backend.xp.log1p(give(backend, tiny, dtype))
            bounds = (TOLERANCE[dtype][0], 0.0)
            expect(backend, found, np.log1p(tiny), f"log1p of {tiny.tolist()}", dtype, bounds)
            # exp of these is infinite or 0, their logarithm is not.
            pairs = np.array([[800.0, 0.0, -800.0, 800.0, -1e30], [0.0, 800.0, -801.0, 799.0, 5.0]])
            found = backend.xp.logaddexp(*(give(backend, p, dtype) for p in pairs))
            what = f"logaddexp of the rows of {pairs.tolist()}"
            expect(backend, found, np.logaddexp(*pairs), what, dtype)
            sigmoid = backend.xp.exp(-backend.xp.logaddexp(0.0 * x[1:4], -x[1:4]))
            expect(backend, sigmoid, np.array([0.0, 0.5, 1.0]), "the sigmoid of -800, 0, 800")


def check_take(backend: Backend) -> None:
    """`take` gathers slices at sorted host indices, as a fresh array that owns its memory."""
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            x = give(backend, X, dtype)
            host = backend.to_numpy(x)
            for axis, index in ((0, [1]), (1, [0, 2]), (1, [0, 1, 2]), (0, [])):
                positions = np.array(index, dtype=np.int64)
                found = backend.take(x, positions, axis)
                wanted = np.take(host, positions, axis).astype(float)
                expect(backend, found, wanted, f"take(x, {index}, {axis})", dtype)
    x = give(backend, X.astype(np.float32))
    kept = backend.take(x, np.arange(2), 0)
    try:
        x[0, 0] = 5.0
    except (TypeError, ValueError, RuntimeError):
        return  # arrays of this framework do not change, so sharing memory does no harm
    expect(
        backend, kept, X, "take(x, [0, 1], 0) shares memory with x: a later change of x", "float32"
    )


def check_device(backend: Backend, *others: Array) -> None:
    """Arrays made beside another one are on its device.

    On one device nothing can go wrong, and a kit cannot know of a second: from your own tests,
    give arrays of shape (2, 3) on `others`.
    """
    for like in (give(backend, X.astype(np.float32)), *others):
        dtype = backend.dtype(like)
        made = {
            "asarray(x, like)": backend.asarray(Y.astype(np.float32), like),
            "asarray of the framework's own array": backend.asarray(give(backend, Y), like),
            "uniform(rng, shape, like)": backend.uniform(backend.rng(0), (3,), like)[0],
            "take": backend.take(like, np.arange(2), 1),
            "stop_gradient": backend.stop_gradient(like),
            "cast": backend.cast(like, dtype),
        }
        wanted = getattr(like, "device", None)
        for what, array in made.items():
            has = getattr(array, "device", None)
            assert has == wanted, f"{what} is on {has}, but should be on {wanted}"


def check_purity(backend: Backend) -> None:
    """Nothing that the algorithm calls changes the arrays that it is given."""
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            _check_purity(backend, dtype)


def _check_purity(backend: Backend, dtype: str) -> None:
    x, y = give(backend, X, dtype), give(backend, Y, dtype)
    host, index = X.copy(), np.arange(2)
    given = [x, y, host, index]
    before = snapshot(backend, given)
    for text, operation in OPERATIONS.items():
        operation.compute(backend.xp, x, y)
        unchanged(backend, given, before, text)

    def cast() -> None:
        for other in backend.dtypes:
            with backend.precision(other):
                backend.cast(x, other)

    calls: dict[str, Callable[[], Any]] = {
        "cast": cast,
        "take": lambda: backend.take(x, index, 1),
        "asarray": lambda: backend.asarray(host, x),
        "to_numpy": lambda: backend.to_numpy(x),
        "stop_gradient": lambda: backend.stop_gradient(x),
        "dtype": lambda: backend.dtype(x),
        "owns": lambda: backend.owns(x),
    }
    if dtype in gate_dtypes(backend):
        calls["uniform"] = lambda: backend.uniform(backend.rng(0), (2, 3), x)
        if "autodiff" in backend.capabilities:
            squares = backend.value_and_grad(lambda p: backend.xp.sum(p["x"] * p["x"]))
            calls["value_and_grad"] = lambda: squares({"x": x})
    for what, call in calls.items():
        call()
        unchanged(backend, given, before, what)
