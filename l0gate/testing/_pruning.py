"""Checks of the algorithm driven by a backend, against NumPy and the independent reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._budget import Budget
from l0gate._errors import L0GateError
from l0gate._hard_concrete import HardConcrete
from l0gate._layout import Layout
from l0gate._plugins import get_backend
from l0gate._pruner import Pruner, State
from l0gate._tensor import Array, Backend
from l0gate.testing._compare import claim, expect, gate_dtypes, give, give_all, snapshot, unchanged

# Every kind of dimension that the notation has.
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
_ALPHA_TOLERANCE = {"float64": (1e-9, 1e-11), "float32": (1e-3, 1e-5)}


class _Case:
    """One model, one gate state, the same for every backend."""

    def __init__(self, backend: Backend, dtype: str, **options: Any) -> None:
        rng = np.random.default_rng(5)
        self.backend = backend
        self.host = {name: rng.normal(size=shape) for name, shape in _SHAPES.items()}
        self.parameters = give_all(backend, self.host, dtype)
        # Open, closed and soft gates; away from the bounds where the derivative jumps.
        self.log_alpha = {axis: np.linspace(-4.0, 4.0, size) + 0.1 for axis, size in _SIZES.items()}
        self.noise_host = {axis: rng.uniform(0.1, 0.9, size) for axis, size in _SIZES.items()}
        self.noise = give_all(backend, self.noise_host, dtype)
        self.pruner = Pruner(_LAYOUT, backend=backend, **(options or {"strength": 1e-3}))
        self.state: State = self.pruner.init(self.parameters, 0, log_alpha=self.log_alpha)


def _each(backend: Backend, **options: Any) -> Any:
    """The case in every dtype of gates, beside the same case in NumPy."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            yield (
                dtype,
                _Case(backend, dtype, **options),
                _Case(get_backend("numpy"), dtype, **options),
            )


def check_hard_concrete(backend: Backend) -> None:
    """Gates, open probabilities and their derivatives are those of `l0gate.reference`."""
    from l0gate import reference

    log_alpha = np.linspace(-7.9, 4.9, 65)
    u = np.linspace(0.02, 0.98, 65)
    gates = HardConcrete()
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            a, n = give(backend, log_alpha, dtype), give(backend, u, dtype)
            sampled, sampled_slope = reference.hard_concrete_sample(log_alpha, u)
            tested, tested_slope = reference.hard_concrete_test_gate(log_alpha)
            opened, opened_slope = reference.hard_concrete_open_probability(log_alpha)
            found = {
                "sample": gates.sample(a, n, backend),
                "sample_slope": gates.sample_slope(a, n, backend),
                "test_gate": gates.test_gate(a, backend),
                "test_gate_slope": gates.test_gate_slope(a, backend),
                "open_probability": gates.open_probability(a, backend),
                "open_probability_slope": gates.open_probability_slope(a, backend),
            }
            wanted = {
                "sample": sampled,
                "sample_slope": sampled_slope,
                "test_gate": tested,
                "test_gate_slope": tested_slope,
                "open_probability": opened,
                "open_probability_slope": opened_slope,
            }
            expect(backend, found, wanted, "HardConcrete", dtype, _ALPHA_TOLERANCE[dtype])


def check_gating(backend: Backend) -> None:
    """Folding gates into parameters, sampled and at test time, gives NumPy's values."""
    for dtype, case, wanted in _each(backend):
        for kind in ("sampled", "test-time"):
            noises = (case.noise, wanted.noise) if kind == "sampled" else (None, None)
            found = case.pruner.gate(case.parameters, case.state, noises[0])
            right = wanted.pruner.gate(wanted.parameters, wanted.state, noises[1])
            expect(backend, found, right, f"parameters folded with {kind} gates", dtype)
    _check_mixed_dtypes(backend)


def _check_mixed_dtypes(backend: Backend) -> None:
    for dtype in backend.dtypes:
        with backend.precision(dtype):
            case = _Case(backend, dtype)
            folded = case.pruner.gate(case.parameters, case.state, None)
            for name, array in folded.items():
                has = backend.dtype(array)
                assert has == dtype, f"the folded {name!r} has dtype {has}, but should have {dtype}"
            gates = {backend.dtype(array) for array in case.state["log_alpha"].values()}
            wanted = "float64" if dtype == "float64" else "float32"
            assert gates == {wanted}, f"log_alpha beside {dtype} has dtypes {sorted(gates)}"


def check_penalty(backend: Backend) -> None:
    """Expected size, penalty and the multipliers' steps are NumPy's."""
    for options in ({"strength": 1e-3}, {"budget": Budget(parameters=0.4)}):
        for dtype, case, right in _each(backend, **options):
            results = []
            for c in (case, right):
                state, penalties = c.state, []
                for progress in (0.0, 0.25, 0.25, 0.5):
                    penalties.append(c.pruner.penalty(state, progress))
                    state = c.pruner.update(state, progress)
                results.append(
                    {
                        "penalty": penalties,
                        "expected_size": c.pruner.expected_size(state),
                        "multipliers": state["multipliers"],
                        "log_alpha": state["log_alpha"],
                        "penalty_gradient": c.pruner.penalty_gradient(state, 0.6),
                    }
                )
            expect(backend, results[0], results[1], "Pruner", dtype, _ALPHA_TOLERANCE[dtype])


def check_pullback(backend: Backend) -> None:
    """The closed-form derivatives of gating are NumPy's, and the backend's own where it has any."""
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=shape) for name, shape in _SHAPES.items()}
    for dtype, case, right in _each(backend):
        w = give_all(backend, weights, dtype)
        found = case.pruner.pullback(case.parameters, case.state, case.noise, w)
        wanted = right.pruner.pullback(
            right.parameters, right.state, right.noise, give_all(right.backend, weights, dtype)
        )
        expect(backend, found, wanted, "Pruner.pullback", dtype, _ALPHA_TOLERANCE[dtype])


def check_gradients_of_gating(backend: Backend) -> None:
    """`value_and_grad` through `Pruner.gate` and `penalty` agrees with the closed forms."""
    claim(backend, "autodiff")
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(size=shape) for name, shape in _SHAPES.items()}
    for dtype, case, _ in _each(backend):
        w = give_all(backend, weights, dtype)

        def loss(p: Mapping[str, Any], case: _Case = case, w: Mapping[str, Array] = w) -> Array:
            state = {**case.state, "log_alpha": p["log_alpha"]}
            folded = case.pruner.gate(p["parameters"], state, case.noise)
            total = case.pruner.penalty(state, 0.5)
            for name, weight in w.items():
                total = total + backend.xp.sum(folded[name] * weight)
            return total

        given = {"parameters": case.parameters, "log_alpha": case.state["log_alpha"]}
        _, slope = backend.value_and_grad(loss)(given)
        of_parameters, of_gates = case.pruner.pullback(case.parameters, case.state, case.noise, w)
        penalty = case.pruner.penalty_gradient(case.state, 0.5)
        wanted = {
            "parameters": snapshot(backend, of_parameters),
            "log_alpha": {a: backend.to_numpy(of_gates[a] + penalty[a]) for a in _SIZES},
        }
        expect(backend, slope, wanted, "the gradient of gating", dtype, _ALPHA_TOLERANCE[dtype])


def check_selection(backend: Backend) -> None:
    """Selecting and shrinking keep the neurons that NumPy keeps, within the budget, purely."""
    for dtype, case, right in _each(backend, budget=Budget(parameters=0.5)):
        before = snapshot(backend, [case.parameters, case.state])
        results = []
        for c in (case, right):
            state = c.pruner.select(c.state, c.parameters)
            small, kept = c.pruner.shrink(c.parameters, state)
            size = c.pruner.size(state)
            assert size <= c.pruner.limit, f"the small model has {size}, above {c.pruner.limit}"
            results.append((small, kept, state["mask"]))
        (small, kept, mask), (right_small, right_kept, right_mask) = results
        for axis, index in right_kept.items():
            assert np.array_equal(kept[axis], index), (
                f"axis {axis!r} keeps {kept[axis].tolist()}, but should keep {index.tolist()}"
            )
        expect(backend, mask, right_mask, "state['mask']", dtype, _ALPHA_TOLERANCE[dtype])
        expect(backend, small, right_small, "the small model", dtype, _ALPHA_TOLERANCE[dtype])
        unchanged(backend, [case.parameters, case.state], before, "select or shrink")


def check_certificate(backend: Backend) -> None:
    """A small model that is right is certified; one that is off by a thousandth is refused."""
    layout = Layout({"weight": "h <- _", "bias": "h", "output": "_ <- h"})
    rng = np.random.default_rng(4)
    host = {
        "weight": rng.normal(size=(6, 3)),
        "bias": rng.normal(size=6),
        "output": rng.normal(size=(2, 6)),
    }

    def apply(p: Mapping[str, Array], x: Array) -> Any:
        hidden = backend.xp.tanh(backend.xp.sum(p["weight"] * x, axis=1) + p["bias"])
        return backend.xp.sum(p["output"] * hidden, axis=1), {"h": hidden}

    for dtype in backend.dtypes:
        with backend.precision(dtype):
            parameters = give_all(backend, host, dtype)
            inputs = [give(backend, rng.normal(size=3), dtype) for _ in range(3)]
            pruner = Pruner(layout, strength=0.1, backend=backend)
            log_alpha = {"h": np.array([3.0, -3.0, 0.5, -4.0, 2.0, -0.5])}
            state = pruner.init(parameters, 0, log_alpha=log_alpha)
            small, kept = pruner.shrink(parameters, state)
            # Here too: training in float32 need not have float64 switched on.
            certificate = pruner.certify(apply, parameters, state, small, kept, inputs)
        assert certificate.max_abs_difference <= certificate.tolerance
        assert kept["h"].tolist() == [0, 2, 4, 5], f"kept {kept['h'].tolist()}"
        with backend.precision(dtype):
            wrong = {**small, "bias": small["bias"] + 1e-3 * backend.xp.ones_like(small["bias"])}
            wrong["bias"] = backend.cast(wrong["bias"], dtype)
            wrong["output"] = small["output"] + 0.1
            try:
                pruner.certify(apply, parameters, state, wrong, kept, inputs)
            except L0GateError:
                continue
        raise AssertionError("a small model that differs from the gated one was certified")
