"""The conformance kit: does a backend do everything that l0gate needs?

Run it from the shell, `python -m l0gate.testing NAME` or `l0gate backends check NAME`, or from the
backend's own tests:

    import l0gate, l0gate.testing, pytest

    @pytest.mark.parametrize("check", l0gate.testing.backend_checks(), ids=lambda c: c.__name__)
    def test_backend(check):
        l0gate.testing.run_check(check, l0gate.get_backend("jax")).raise_if_failed()

Every check is a plain function of the backend. The first line of its docstring says what a backend
promises. The check raises `AssertionError` with the reason if the promise is broken, and
`NotClaimed` if it is about a capability that the backend does not declare.

This module lists all checks and runs them. The others, in reading order:

- `_operations`: the expressions of the array namespace that the algorithm needs
- `_compare`: comparing a backend's arrays with NumPy's, and saying what differs
- `_arrays`: checks of values, dtypes, broadcasting, `take`, device, purity
- `_random`: checks of random numbers
- `_gradients`: checks of "autodiff"
- `_pruning`: checks of gates, penalty, selection, shrinking and certificate
- `_nets`: the check of "nets"
- `_models`: the check of "models"
- `_outcome`: running one check, its outcome, and outcomes as text
- `__main__`: `python -m l0gate.testing NAME`
"""

from __future__ import annotations

from collections.abc import Collection

from l0gate._backend import Backend
from l0gate._errors import L0GateError
from l0gate.testing._arrays import (
    check_broadcasting,
    check_conversion,
    check_description,
    check_device,
    check_dtypes,
    check_extreme_values,
    check_ownership,
    check_purity,
    check_scalars,
    check_take,
    check_values,
)
from l0gate.testing._compare import NotClaimed
from l0gate.testing._gradients import (
    check_gradient_structure,
    check_gradients,
    check_stop_gradient,
)
from l0gate.testing._models import check_models
from l0gate.testing._nets import check_nets
from l0gate.testing._outcome import Check, Outcome, run_check
from l0gate.testing._pruning import (
    check_certificate,
    check_gating,
    check_gradients_of_gating,
    check_hard_concrete,
    check_penalty,
    check_pullback,
    check_selection,
)
from l0gate.testing._random import (
    check_uniform_independence,
    check_uniform_range,
    check_uniform_seed,
)

__all__ = [
    "Check",
    "NotClaimed",
    "Outcome",
    "backend_checks",
    "check_broadcasting",
    "check_certificate",
    "check_conversion",
    "check_description",
    "check_device",
    "check_dtypes",
    "check_extreme_values",
    "check_gating",
    "check_gradient_structure",
    "check_gradients",
    "check_gradients_of_gating",
    "check_hard_concrete",
    "check_models",
    "check_nets",
    "check_ownership",
    "check_penalty",
    "check_pullback",
    "check_purity",
    "check_scalars",
    "check_selection",
    "check_stop_gradient",
    "check_take",
    "check_uniform_independence",
    "check_uniform_range",
    "check_uniform_seed",
    "check_values",
    "run_check",
    "run_checks",
]


def backend_checks() -> list[Check]:
    """Every check, a plain function of a backend. Later ones rely on what earlier ones check.

    >>> [check.__name__ for check in backend_checks()][:3]
    ['check_description', 'check_ownership', 'check_conversion']
    """
    return [
        check_description,
        check_ownership,
        check_conversion,
        check_dtypes,
        check_values,
        check_scalars,
        check_broadcasting,
        check_extreme_values,
        check_take,
        check_device,
        check_purity,
        check_uniform_range,
        check_uniform_seed,
        check_uniform_independence,
        check_stop_gradient,
        check_gradients,
        check_gradient_structure,
        check_hard_concrete,
        check_gating,
        check_penalty,
        check_pullback,
        check_gradients_of_gating,
        check_selection,
        check_certificate,
        check_nets,
        check_models,
    ]


def run_checks(backend: Backend, only: Collection[str] = ()) -> list[Outcome]:
    """Run every check, or those whose names are in `only`.

    >>> import l0gate
    >>> [o.result for o in run_checks(l0gate.get_backend("numpy"), only=["check_gradients"])]
    ['not claimed']
    """
    if not isinstance(backend, Backend):
        raise L0GateError(f"`backend` is {backend!r}; it must be a l0gate.Backend")
    checks = {check.__name__: check for check in backend_checks()}
    for name in only:
        if name not in checks:
            raise L0GateError(f"`only` names {name!r}; the checks are {', '.join(checks)}")
    return [run_check(check, backend) for name, check in checks.items() if not only or name in only]
