"""The checks of the algorithm: every kind of fault fails at one of them."""

from __future__ import annotations

import re

import pytest
from faults import assert_found, found_in
from faulty_backends import (
    CastForgetsTheDtype,
    ConstantsMatter,
    OffLog1p,
    OffLogaddexp,
    TakeReversesFloat64,
)
from faulty_torch_backends import GradientOffByAFactor

import l0gate
import l0gate.testing
from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    _pruning,
    run_check,
)


@pytest.mark.parametrize("fault", found_in(_pruning), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)


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


def test_a_wrong_certificate_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit notices where the certificate itself compares nothing."""
    monkeypatch.setattr("l0gate._certificate.TOLERANCE", 1e9)
    monkeypatch.setattr("l0gate._certificate.TOLERANCE_FLOAT32", 1e9)
    outcome = run_check(l0gate.testing.check_certificate, NumpyBackend())
    assert outcome.reason == "a small model that differs from the gated one was certified"


def test_a_wrong_gradient_is_seen_in_the_algorithm_too() -> None:
    named = run_check(l0gate.testing.check_gradients_of_gating, GradientOffByAFactor())
    assert re.match(r"the gradient of gating\['\w+'\]\['\w+'\]", named.reason), named.reason
