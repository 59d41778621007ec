"""The checks of gradients: every kind of fault fails at one of them."""

from __future__ import annotations

import pytest
from faults import assert_found, found_in

import l0gate
from l0gate.testing import _gradients


@pytest.mark.parametrize("fault", found_in(_gradients), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)
