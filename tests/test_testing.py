"""The conformance kit: our own backends pass it, and every kind of fault fails it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from faulty_backends import (
    FAULTS,
    MESSAGES,
    CastForgetsTheDtype,
    ConstantsMatter,
    OffLog1p,
    OffLogaddexp,
    RoughLog1p,
    TakeReversesFloat64,
    UniformAvoidsTheEnds,
    _OneStream,
)

import l0gate
import l0gate.testing
from l0gate import L0GateError
from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    backend_checks,
    run_check,
    run_checks,
)


def read_only(value: Any) -> Any:
    """The same values, where changing them raises."""
    array = np.asarray(value)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


class _ReadOnlyNamespace:
    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        return lambda *args, **kwargs: read_only(function(*args, **kwargs))


class ReadOnlyNumpy(NumpyBackend):
    """NumPy whose arrays can never be changed, as those of most other frameworks."""

    name: ClassVar[str] = "read-only"
    xp: Any = _ReadOnlyNamespace()

    def asarray(self, array: Any, like: Any = None) -> Any:
        return read_only(np.array(array))

    def cast(self, x: Any, dtype: str) -> Any:
        return read_only(super().cast(x, dtype))


OWN = {
    "numpy": NumpyBackend(),
    "read-only": ReadOnlyNumpy(),
}


@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OWN)
def test_our_own_backends_conform(name: str, check: Callable[..., None]) -> None:
    outcome = run_check(check, OWN[name])
    outcome.raise_if_failed()
    not_claimed = {"check_gradients", "check_gradient_structure", "check_gradients_of_gating"}
    not_claimed |= {"check_models"}
    assert outcome.result == ("not claimed" if outcome.name in not_claimed else "passed")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    named = run_check(getattr(l0gate.testing, FAULTS[fault]), fault())
    assert named.result == "failed", named
    if fault in MESSAGES:
        assert re.search(MESSAGES[fault], named.reason), named.reason
    with pytest.raises(AssertionError, match=named.name):
        named.raise_if_failed()


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        (OffLog1p, "check_gating", r"^the folded parameters\['sampled'\]\['\w+'\]"),
        (OffLogaddexp, "check_penalty", r"^Pruner\['penalty'\]\[0\]"),
        (ConstantsMatter, "check_penalty", r"^Pruner\['"),
        (OffLog1p, "check_pullback", r"^Pruner.pullback\[0\]\['\w+'\]"),
        (TakeReversesFloat64, "check_selection", r"small after `select`\['\w+'\]"),
        (CastForgetsTheDtype, "check_gating", "has dtype float32, but should have float64"),
    ],
)
def test_a_fault_is_seen_in_the_algorithm_too(
    fault: type[l0gate.Backend], check: str, message: str
) -> None:
    named = run_check(getattr(l0gate.testing, check), fault())
    assert named.result == "failed"
    assert re.search(message, named.reason), named.reason


def test_what_is_within_the_tolerance_passes() -> None:
    run_check(l0gate.testing.check_extreme_values, RoughLog1p()).raise_if_failed()


@pytest.mark.parametrize("backend", [UniformAvoidsTheEnds(), _OneStream()])
def test_generators_that_do_otherwise_and_are_right(
    backend: NumpyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(backend, UniformAvoidsTheEnds):
        monkeypatch.setattr("l0gate.testing._random._SEARCHED", 2**24)
        run_check(l0gate.testing.check_uniform_range, backend).raise_if_failed()
        run_check(l0gate.testing.check_uniform_seed, backend).raise_if_failed()
    run_check(l0gate.testing.check_uniform_independence, backend).raise_if_failed()


def test_a_wrong_certificate_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit notices where the certificate itself compares nothing."""
    monkeypatch.setattr("l0gate._certificate.TOLERANCE", 1e9)
    monkeypatch.setattr("l0gate._certificate.TOLERANCE_FLOAT32", 1e9)
    outcome = run_check(l0gate.testing.check_certificate, NumpyBackend())
    assert outcome.reason == "a small model that differs from the gated one was certified"


def test_every_check_says_what_it_promises() -> None:
    checks = backend_checks()
    assert len({check.__name__ for check in checks}) == len(checks)
    listed = {name for name in l0gate.testing.__all__ if name.startswith("check_")}
    assert {check.__name__ for check in checks} == listed
    for check in checks:
        assert (check.__doc__ or "").partition("\n")[0].endswith("."), check.__name__
    assert run_check(l0gate.testing.check_device, NumpyBackend()).promise == (
        "Arrays made beside another one are on its device."
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


def test_an_outcome_keeps_the_error() -> None:
    class Explodes(NumpyBackend):
        def take(self, x: Any, index: Any, axis: int) -> Any:
            raise KeyError("axis")

    outcome = run_check(l0gate.testing.check_take, Explodes())
    assert outcome.reason == "KeyError: 'axis'"
    promise = l0gate.testing.check_take.__doc__.partition("\n")[0]  # type: ignore[union-attr]
    assert (outcome.name, outcome.promise, outcome.result) == ("check_take", promise, "failed")
    assert isinstance(outcome.error, KeyError)
    assert outcome.traceback().endswith("KeyError: 'axis'\n")
    assert "in take" in outcome.traceback()
    with pytest.raises(AssertionError, match="KeyError: 'axis'") as raised:
        outcome.raise_if_failed()
    assert raised.value.__cause__ is outcome.error
    passed = run_check(l0gate.testing.check_take, NumpyBackend())
    assert passed.error is None
    assert passed.traceback() == ""
    passed.raise_if_failed()


@pytest.mark.parametrize(
    "method", ["take", "asarray", "to_numpy", "stop_gradient", "dtype", "owns"]
)
def test_each_call_that_changes_its_argument_is_named(method: str) -> None:
    def changing(self: Any, x: Any, *args: Any) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x += 1.0
        return getattr(NumpyBackend, method)(self, x, *args)

    backend = type("Changing", (NumpyBackend,), {method: changing})()
    with pytest.raises(AssertionError, match=f"{method} changed an array that it was given"):
        l0gate.testing.check_purity(backend)


def test_a_framework_without_devices() -> None:
    class Nowhere(np.ndarray):
        @property
        def device(self) -> Any:
            raise AttributeError("device")

    class NowhereBackend(NumpyBackend):
        def asarray(self, array: Any, like: Any = None) -> Any:
            return np.array(array).view(Nowhere)

        def cast(self, x: Any, dtype: str) -> Any:
            return x.astype(dtype)

    assert not hasattr(NowhereBackend().asarray([1.0]), "device")
    l0gate.testing.check_device(NowhereBackend())


def test_extreme_values_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        l0gate.testing.check_extreme_values(NumpyBackend())
