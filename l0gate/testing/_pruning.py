"""Checks of gates, penalty, selection and certificate in a backend, against NumPy's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate._budget import Budget
from l0gate._errors import L0GateError
from l0gate._hard_concrete import HardConcrete
from l0gate._pruner import Pruner
from l0gate._registry import get_backend
from l0gate._state import State
from l0gate.layout.layout import Layout
from l0gate.testing._compare import claim, expect, gate_dtypes, give, give_all, snapshot, unchanged

# A layout with every kind of dimension that the notation has.
_LAYOUT = Layout(
    {
        "embedding": "_ -> x",
        "weight": "(4 h) <- x",
        "recurrent": "(4 h) <- h",
        "bias": "(4 h)",
        "kernel": "(h + g) -> (3 g)",
        "slices": ["(2 f) <- g", "(2 f) <- g"],
        "output": "_ <- (g + 2 + f 2 + h)",
        "counter": "_",
    }
)
_SIZES = {"x": 5, "h": 6, "g": 4, "f": 3}
_SHAPES = {
    "embedding": (7, 5),
    "weight": (24, 5),
    "recurrent": (24, 6),
    "bias": (24,),
    "kernel": (10, 12),
    "slices": (2, 6, 4),
    "output": (3, 18),
    "counter": (2,),
}
# Gates of 0, 1 and between, none near a bound of the clip, where the derivative jumps.
_LOG_ALPHA = {axis: np.linspace(-4.0, 4.0, size) + 0.1 for axis, size in _SIZES.items()}
_STRENGTH: Mapping[str, Any] = {"strength": 1e-3}
_HALF: Mapping[str, Any] = {"budget": Budget(parameters=0.5)}
_PROGRESS, _AFTER = (0.0, 0.25, 0.25, 0.5), 0.6


def _normal(seed: int) -> dict[str, np.ndarray]:
    """Arrays of normally distributed numbers: one for each parameter of the test model."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in _SHAPES.items()}


_HOST, _WEIGHTS = _normal(5), _normal(2)
_NOISE = {axis: np.linspace(0.1, 0.9, size)[::-1] for axis, size in _SIZES.items()}
# For `check_hard_concrete`: log_alpha and uniform noise.
_ALPHA, _UNIFORM = np.linspace(-7.9, 4.9, 65), np.linspace(0.02, 0.98, 65)
# For `check_certificate`: a layer of 6 neurons, of which 4 stay, and its inputs.
_LAYER = Layout({"weight": "h <- _", "bias": "h", "output": "_ <- h"})
_LAYER_HOST = {
    "weight": np.linspace(-1.0, 1.2, 18).reshape(6, 3),
    "bias": np.linspace(-0.5, 0.6, 6),
    "output": np.linspace(1.1, -0.9, 12).reshape(2, 6),
}
_LAYER_LOG_ALPHA, _LAYER_KEPT = {"h": [3.0, -3.0, 0.5, -4.0, 2.0, -0.5]}, [0, 2, 4, 5]
_LAYER_INPUTS = np.linspace(-1.5, 1.4, 9).reshape(3, 3)


class _Case:
    """A model, its pruner and its gate state, with the same values in every backend."""

    def __init__(self, backend: Backend, dtype: str, options: Mapping[str, Any]) -> None:
        self.backend = backend
        self.parameters = give_all(backend, _HOST, dtype)
        self.weights = give_all(backend, _WEIGHTS, dtype)
        self.noise = give_all(backend, _NOISE, dtype)
        self.pruner = Pruner(_LAYOUT, backend=backend, **options)
        self.state: State = self.pruner.init(self.parameters, log_alpha=_LOG_ALPHA)


def _each(
    backend: Backend, options: Mapping[str, Any] = _STRENGTH
) -> Iterator[tuple[str, _Case, _Case]]:
    """Yield each dtype of gates, the case in this dtype, and the same case with NumPy."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            cases = (_Case(b, dtype, options) for b in (backend, get_backend("numpy")))
            yield dtype, next(cases), next(cases)


def check_hard_concrete(backend: Backend) -> None:
    """Gates, open probabilities and their derivatives equal those of `l0gate.reference`."""
    from l0gate import reference

    sampled, tested, opened = (
        reference.hard_concrete_sample(_ALPHA, _UNIFORM),
        reference.hard_concrete_test_gate(_ALPHA),
        reference.hard_concrete_open_probability(_ALPHA),
    )
    gates = HardConcrete()
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            a, u = give(backend, _ALPHA, dtype), give(backend, _UNIFORM, dtype)
            for name, arguments, wanted in (
                ("sample", (a, u), sampled),
                ("test_gate", (a,), tested),
                ("open_probability", (a,), opened),
            ):
                found = [
                    getattr(gates, method)(*arguments, backend)
                    for method in (name, f"{name}_gradient")
                ]
                what = f"[{name}, {name}_gradient] of HardConcrete"
                expect(backend, found, wanted, what, dtype)


def check_gating(backend: Backend) -> None:
    """Folding gates into parameters, sampled and at test time, gives NumPy's values."""
    for dtype, *cases in _each(backend):
        found, wanted = (
            {
                "sampled": case.pruner.gate(case.parameters, case.state, case.noise),
                "test-time": case.pruner.gate(case.parameters, case.state),
            }
            for case in cases
        )
        expect(backend, found, wanted, "the folded parameters", dtype)
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            case = _Case(backend, dtype, _STRENGTH)
            folded = case.pruner.gate(case.parameters, case.state)
            for name, array in folded.items():
                has = backend.dtype(array)
                assert has == dtype, f"the folded {name!r} has dtype {has}, but should have {dtype}"
            gates = {backend.dtype(array) for array in case.state["log_alpha"].values()}
            right = {dtype if dtype in gate_dtypes(backend) else "float32"}
            assert gates == right, f"log_alpha beside {dtype} has dtypes {sorted(gates)}"


def check_penalty(backend: Backend) -> None:
    """Over several updates, expected size, penalty and multipliers equal NumPy's."""
    for options in (_STRENGTH, _HALF):
        for dtype, *cases in _each(backend, options):
            found, wanted = (_steered(case) for case in cases)
            expect(backend, found, wanted, "Pruner", dtype)


def _steered(case: _Case) -> dict[str, Any]:
    pruner, state, penalties = case.pruner, case.state, []
    for progress in _PROGRESS:
        penalties.append(pruner.penalty(state, progress))
        state = pruner.update(state, progress)
    return {
        "penalty": penalties,
        "expected_size": pruner.expected_size(state),
        "state": {name: state[name] for name in ("multipliers", "log_alpha")},
        "penalty_gradient": pruner.penalty_gradient(state, _AFTER),
    }


def check_pullback(backend: Backend) -> None:
    """`Pruner.pullback`, the gradient of gating in closed form, equals NumPy's."""
    for dtype, *cases in _each(backend):
        found, wanted = (
            case.pruner.pullback(case.parameters, case.state, case.noise, case.weights)
            for case in cases
        )
        expect(backend, found, wanted, "Pruner.pullback", dtype)


def check_gradients_of_gating(backend: Backend) -> None:
    """`value_and_grad` of `Pruner.gate` and `penalty` equals the gradients in closed form."""
    claim(backend, "autodiff")
    for dtype, case, _ in _each(backend):

        def loss(p: Mapping[str, Any], case: _Case = case) -> Array:
            state = {**case.state, "log_alpha": p["log_alpha"]}
            folded = case.pruner.gate(p["parameters"], state, case.noise)
            total = case.pruner.penalty(state, _AFTER)
            for name, weight in case.weights.items():
                total = total + backend.xp.sum(folded[name] * weight)
            return total

        given = {"parameters": case.parameters, "log_alpha": case.state["log_alpha"]}
        _, gradient = backend.value_and_grad(loss)(given)
        of_parameters, of_gates = case.pruner.pullback(
            case.parameters, case.state, case.noise, case.weights
        )
        penalty = case.pruner.penalty_gradient(case.state, _AFTER)
        wanted = {
            "parameters": snapshot(backend, of_parameters),
            "log_alpha": {a: backend.to_numpy(of_gates[a] + penalty[a]) for a in _SIZES},
        }
        expect(backend, gradient, wanted, "the gradient of gating", dtype)


def check_selection(backend: Backend) -> None:
    """`select` and `shrink` keep the neurons that NumPy keeps, and change no array."""
    for dtype, *cases in _each(backend, _HALF):
        given = [cases[0].parameters, cases[0].state]
        before = snapshot(backend, given)
        found, wanted = (_selected(case) for case in cases)
        unchanged(backend, given, before, "select or shrink")
        for axis, index in wanted["kept"].items():
            has = found["kept"][axis]
            assert np.array_equal(has, index), (
                f"axis {axis!r} keeps {has.tolist()}, but should keep {index.tolist()}"
            )
        for name in ("mask", "small"):
            expect(backend, found[name], wanted[name], f"{name} after `select`", dtype)


def _selected(case: _Case) -> dict[str, Any]:
    state = case.pruner.select(case.state, case.parameters)
    small, kept = case.pruner.shrink(case.parameters, state)
    return {"mask": state["mask"], "small": small, "kept": kept}


def check_certificate(backend: Backend) -> None:
    """A correct small model is certified; one with outputs off by 1% is refused."""

    def apply(p: Mapping[str, Array], x: Array) -> Any:
        hidden = backend.xp.tanh(backend.xp.sum(p["weight"] * x, axis=1) + p["bias"])
        return backend.xp.sum(p["output"] * hidden, axis=1), {"h": hidden}

    for dtype in backend.dtypes:
        with backend.precision(dtype):
            parameters = give_all(backend, _LAYER_HOST, dtype)
            inputs = [give(backend, x, dtype) for x in _LAYER_INPUTS]
            pruner = Pruner(_LAYER, backend=backend, **_STRENGTH)
            state = pruner.init(parameters, log_alpha=_LAYER_LOG_ALPHA)
            small, kept = pruner.shrink(parameters, state)
            found = kept["h"].tolist()
            assert found == _LAYER_KEPT, f"kept {found}, but should keep {_LAYER_KEPT}"
            # Must also work here, where float64 may be switched off: models train in float32.
            pruner.certify(apply, parameters, state, small, kept, inputs)
            wrong = {**small, "output": small["output"] * 1.01}
            try:
                pruner.certify(apply, parameters, state, wrong, kept, inputs)
            except L0GateError:
                continue
        raise AssertionError("a small model that differs from the gated one was certified")
