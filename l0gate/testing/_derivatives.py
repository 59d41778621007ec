"""Checks of `value_and_grad`, for backends that claim "autodiff"."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._tensor import Backend
from l0gate.testing._compare import claim, expect, gate_dtypes, give
from l0gate.testing._operations import OPERATIONS, X, Y

# Central differences in float64 are right to about 1e-9; float32 rounds at 1e-7.
_TOLERANCE = {"float64": (1e-7, 1e-8), "float32": (1e-4, 1e-5)}


def check_gradients(backend: Backend) -> None:
    """The derivative of every operation is the one that differences show."""
    claim(backend, "autodiff")
    rng = np.random.default_rng(0)
    for text, operation in OPERATIONS.items():
        if not operation.smooth:
            continue
        weight = rng.normal(size=np.shape(operation.compute(np, X, Y)))

        def host(x: Any, y: Any, o: Any = operation, w: Any = weight) -> float:
            return float(np.sum(o.compute(np, x, y) * w))

        wanted = {"x": _difference(host, X, Y, 0), "y": _difference(host, X, Y, 1)}
        for dtype in gate_dtypes(backend):
            with backend.precision(dtype):
                w = give(backend, weight, dtype)
                value, slope = backend.value_and_grad(
                    lambda p, o=operation, w=w: backend.xp.sum(
                        o.compute(backend.xp, p["x"], p["y"]) * w
                    )
                )({"x": give(backend, X, dtype), "y": give(backend, Y, dtype)})
                expect(
                    backend,
                    value,
                    host(X, Y),
                    f"the value of sum(w * ({text}))",
                    dtype,
                    _TOLERANCE[dtype],
                )
                expect(
                    backend,
                    slope,
                    wanted,
                    f"the gradient of sum(w * ({text}))",
                    dtype,
                    _TOLERANCE[dtype],
                )


def _difference(function: Any, x: np.ndarray, y: np.ndarray, which: int) -> np.ndarray:
    step = 1e-6
    slope = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = []
        for sign in (1, -1):
            arrays = [x.copy(), y.copy()]
            arrays[which][index] += sign * step
            moved.append(function(*arrays))
        slope[index] = (moved[0] - moved[1]) / (2 * step)
    return slope


def check_gradient_structure(backend: Backend) -> None:
    """Gradients mirror nested dicts, are 0 where nothing depends, and pass arguments on."""
    claim(backend, "autodiff")
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            given = {
                "a": {"b": give(backend, X, dtype), "c": give(backend, Y, dtype)},
                "d": give(backend, X[0], dtype),
            }

            def function(p: Any, scale: float, *, shift: float) -> Any:
                return backend.xp.sum(scale * p["a"]["b"] ** 2 + shift)

            value, slope = backend.value_and_grad(function)(given, 3.0, shift=1.0)
            expect(backend, value, np.sum(3.0 * X**2 + 1.0), "the value", dtype)
            wanted = {"a": {"b": 6.0 * X, "c": 0.0 * Y}, "d": 0.0 * X[0]}
            expect(backend, slope, wanted, "the gradient", dtype)


def check_stop_gradient(backend: Backend) -> None:
    """`stop_gradient` keeps the values, and derivatives take it for a constant."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            x = give(backend, X, dtype)
            expect(backend, backend.stop_gradient(x), X, "stop_gradient(x)", dtype)
            if "autodiff" in backend.capabilities:
                _, slope = backend.value_and_grad(
                    lambda p: backend.xp.sum(backend.stop_gradient(p["x"]) * p["x"])
                )({"x": x})
                expect(backend, slope, {"x": X}, "the gradient of stop_gradient(x) * x", dtype)
