"""The error base class, checks that raise it, and warnings that point at the caller."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest

from l0gate import L0GateError
from l0gate._errors import check, warn


def test_a_check_raises_its_message_unless_the_condition_holds() -> None:
    check(True, "never seen")
    with pytest.raises(L0GateError, match=r"^`beta` is 0; it must be above 0$"):
        check(0, "`beta` is 0; it must be above 0")
    assert issubclass(L0GateError, ValueError)


def test_a_warning_points_at_the_line_that_called_l0gate() -> None:
    """However deep inside it was raised, and whatever of torch stands between."""
    between: dict[str, Any] = {"__name__": "torch.nn.modules"}
    exec("def pass_on(f): f()", between)
    inside: dict[str, Any] = {
        "__name__": "l0gate._inside",
        "warn": warn,
        "pass_on": between["pass_on"],
    }
    exec("def deep(): warn('deep')\ndef call(): pass_on(deep)", inside)
    for call in (inside["call"], inside["deep"]):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
            line = sys._getframe().f_lineno - 1
        assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]
