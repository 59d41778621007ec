"""The check of models: every kind of fault fails at it."""

from __future__ import annotations

import pytest
from faults import assert_found, found_in
from faulty_torch_backends import GatedModelReturnsADict

import l0gate
import l0gate.testing
from l0gate.testing import (
    _models,
    run_check,
)


@pytest.mark.parametrize("fault", found_in(_models), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)


def test_models_may_return_nested_arrays() -> None:
    run_check(l0gate.testing.check_models, GatedModelReturnsADict()).raise_if_failed()
