"""Checks of the capability "autodiff": gradients by `value_and_grad`, and `stop_gradient`."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate.testing._compare import claim, expect, gate_dtypes, give, give_all
from l0gate.testing._operations import OPERATIONS, X, Y

_TREE = {"a": {"b": X, "c": Y}, "d": X[0]}
_SCALE, _SHIFT = 3.0, 1.0
_GRADIENT = {"a": {"b": 2.0 * _SCALE * X, "c": np.zeros_like(Y)}, "d": np.zeros_like(X[0])}
# Central differences in float64 are right to about 1e-9; float32 rounds at 1e-7.
_STEP = 1e-6
_TOLERANCE = {"float64": (1e-7, 1e-8), "float32": (1e-4, 1e-5)}


def check_gradients(backend: Backend) -> None:
    """The gradient of every operation agrees with central differences."""
    claim(backend, "autodiff")
    rng = np.random.default_rng(0)
    for text, operation in OPERATIONS.items():
        if not operation.smooth:
            continue
        weight = rng.normal(size=np.shape(operation.compute(np, X, Y)))

        def host(x: Any, y: Any, o: Any = operation, w: Any = weight) -> float:
            return float(np.sum(o.compute(np, x, y) * w))

        differences = {which: _difference(host, which) for which in ("x", "y")}
        wanted = {"value": host(X, Y), "gradient": differences}
        for dtype in gate_dtypes(backend):
            with backend.precision(dtype):
                w = give(backend, weight, dtype)
                value, gradient = backend.value_and_grad(
                    lambda p, o=operation, w=w: backend.xp.sum(o.compute(backend.xp, **p) * w)
                )(give_all(backend, {"x": X, "y": Y}, dtype))
                found = {"value": value, "gradient": gradient}
                expect(backend, found, wanted, f"sum(w * ({text}))", dtype, _TOLERANCE[dtype])


def _difference(function: Any, which: str) -> np.ndarray:
    """The gradient of function(x, y) in `which`, "x" or "y", at (X, Y), by central differences."""
    gradient = np.zeros_like(X)
    for index in np.ndindex(X.shape):
        moved = []
        for step in (_STEP, -_STEP):
            arrays = {"x": X.copy(), "y": Y.copy()}
            arrays[which][index] += step
            moved.append(function(**arrays))
        gradient[index] = (moved[0] - moved[1]) / (2 * _STEP)
    return gradient


def check_gradient_structure(backend: Backend) -> None:
    """Gradients are nested like the arrays, 0 for unused ones; other arguments are passed on."""
    claim(backend, "autodiff")
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):

            def function(p: Any, scale: float, *, shift: float) -> Any:
                return backend.xp.sum(scale * p["a"]["b"] ** 2 + shift)

            given = give_all(backend, _TREE, dtype)
            value, gradient = backend.value_and_grad(function)(given, _SCALE, shift=_SHIFT)
            found = {"value": value, "gradient": gradient}
            wanted = {"value": np.sum(_SCALE * X**2 + _SHIFT), "gradient": _GRADIENT}
            expect(backend, found, wanted, "value_and_grad", dtype)


def check_stop_gradient(backend: Backend) -> None:
    """`stop_gradient` keeps the values, and has a gradient of 0."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            x = give(backend, X, dtype)
            what = "stop_gradient(x)"
            expect(backend, backend.stop_gradient(x), X, what, dtype)
            if "autodiff" in backend.capabilities:
                _, gradient = backend.value_and_grad(
                    lambda p: backend.xp.sum(backend.stop_gradient(p["x"]) * p["x"])
                )({"x": x})
                expect(backend, gradient, {"x": X}, f"the gradient of {what} * x", dtype)
