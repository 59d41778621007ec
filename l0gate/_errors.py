"""`L0GateError`, the base class of every error; checks that raise it; warnings."""

from __future__ import annotations

import sys
import warnings


class L0GateError(ValueError):
    """Raised for every bad input or broken promise; the message names what was given and allowed.

    >>> raise L0GateError("`beta` is 0; it must be above 0")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `beta` is 0; it must be above 0
    """


def check(condition: object, message: str) -> None:
    """Raise `L0GateError(message)` unless the condition holds.

    The caller formats the message in every case. Code that runs in every step raises by itself.
    """
    if not condition:
        raise L0GateError(message)


_BETWEEN = ("l0gate", "torch", "contextlib")  # what may stand between a warning and its cause


def warn(message: str) -> None:
    """Warn (`UserWarning`) at the line that called l0gate, however deep inside it this is."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=depth)
