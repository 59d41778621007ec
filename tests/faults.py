"""Which faulty backends each module of the conformance kit must find."""

from __future__ import annotations

import re
from types import ModuleType

import faulty_backends
import faulty_torch_backends
import pytest

import l0gate.testing
from l0gate import Backend
from l0gate.testing import run_check

_CHECKS = faulty_backends.FAULTS | faulty_torch_backends.FAULTS
_MESSAGES = faulty_backends.MESSAGES | faulty_torch_backends.MESSAGES


def found_in(module: ModuleType) -> list[type[Backend]]:
    """The faulty backends that a check of this module must find."""
    return [
        fault
        for fault, check in _CHECKS.items()
        if getattr(l0gate.testing, check).__module__ == module.__name__
    ]


def assert_found(fault: type[Backend]) -> None:
    """The check that is meant for the fault fails, for the right reason."""
    outcome = run_check(getattr(l0gate.testing, _CHECKS[fault]), fault())
    assert outcome.result == "failed", outcome
    assert re.search(_MESSAGES.get(fault, ""), outcome.reason, re.DOTALL), outcome.reason
    with pytest.raises(AssertionError, match=outcome.name):
        outcome.raise_if_failed()
