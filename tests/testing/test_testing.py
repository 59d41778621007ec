"""The list of checks, and running all or some of them."""

from __future__ import annotations

import pytest

import l0gate
import l0gate.testing
from l0gate import L0GateError
from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    backend_checks,
    run_check,
    run_checks,
)


def test_every_check_says_what_it_promises() -> None:
    checks = backend_checks()
    assert len({check.__name__ for check in checks}) == len(checks)
    listed = {name for name in l0gate.testing.__all__ if name.startswith("check_")}
    assert {check.__name__ for check in checks} == listed
    for check in checks:
        assert (check.__doc__ or "").partition("\n")[0].endswith("."), check.__name__
    assert run_check(l0gate.testing.check_device, NumpyBackend()).promise == (
        "An array made with `like`, or from another array, is on the device of that array."
    )


def test_run_checks_needs_a_backend() -> None:
    with pytest.raises(L0GateError, match=r"`backend` is 'numpy'; it must be a l0gate.Backend"):
        run_checks("numpy")  # type: ignore[arg-type]


def test_chosen_checks() -> None:
    outcomes = run_checks(NumpyBackend(), only=["check_take", "check_gradients"])
    assert [(o.name, o.result) for o in outcomes] == [
        ("check_take", "passed"),
        ("check_gradients", "not claimed"),
    ]
    with pytest.raises(L0GateError, match=r"`only` names 'x'; the checks are check_description, "):
        run_checks(NumpyBackend(), only=["check_take", "x"])
