"""The conformance kit: does a backend do all that l0gate asks of it?

Run it from the shell, `python -m l0gate.testing NAME` or `l0gate backends check NAME`, or from the
backend's own tests:

    import l0gate, l0gate.testing, pytest

    @pytest.mark.parametrize("check", l0gate.testing.backend_checks(), ids=lambda c: c.__name__)
    def test_backend(check):
        l0gate.testing.run_check(check, l0gate.get_backend("jax")).raise_if_failed()

Every check is a plain function of the backend. The first line of its docstring says what it
promises; it raises `AssertionError` with the reason where the promise is broken, and `NotClaimed`
where it is about a capability that the backend does not declare.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from traceback import format_exception

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
from l0gate.testing._derivatives import (
    check_gradient_structure,
    check_gradients,
    check_stop_gradient,
)
from l0gate.testing._models import check_models, check_nets
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

Check = Callable[[Backend], None]

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


@dataclass(frozen=True)
class Outcome:
    """How one check ended: `result` is "passed", "failed" or "not claimed".

    `error` is what a failed check raised, with its traceback.
    """

    name: str
    promise: str
    result: str
    reason: str = ""
    error: Exception | None = field(default=None, repr=False, compare=False)

    def raise_if_failed(self) -> None:
        """Raise `AssertionError` with the promise and the reason, if the check failed."""
        if self.result == "failed":
            raise AssertionError(f"{self.name}: {self.promise}\n{self.reason}") from self.error

    def traceback(self) -> str:
        """Where a failed check raised its error, as text."""
        return "".join(format_exception(self.error)) if self.error is not None else ""


def backend_checks() -> list[Check]:
    """Every check, the basic ones first: plain functions of a backend.

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


def run_check(check: Check, backend: Backend) -> Outcome:
    """Run one check; whatever the backend raises is the reason of a failure.

    >>> import l0gate
    >>> run_check(check_take, l0gate.get_backend("numpy")).result
    'passed'
    """
    name, promise = check.__name__, (check.__doc__ or "").partition("\n")[0]
    try:
        check(backend)
    except NotClaimed as error:
        return Outcome(name, promise, "not claimed", f"the backend does not offer {error}")
    except AssertionError as error:
        return Outcome(name, promise, "failed", str(error), error)
    except Exception as error:  # a backend under test may fail in any way
        return Outcome(name, promise, "failed", f"{type(error).__name__}: {error}", error)
    return Outcome(name, promise, "passed")


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
