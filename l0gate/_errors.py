"""`L0GateError`, the base class of every error; checks that raise it; warnings."""

from __future__ import annotations

import sys
import warnings


class L0GateError(ValueError):
    """Raised for bad input and failed checks; the message says what was given and what is allowed.

    >>> raise L0GateError("`beta` is 0; it must be above 0")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `beta` is 0; it must be above 0
    """


def check(condition: object, message: str) -> None:
    """Raise `L0GateError(message)` unless the condition holds.

    The message is formatted even if the condition holds. So code that runs in every training step
    uses `if not condition: raise L0GateError(...)` instead.
    """
    if not condition:
        raise L0GateError(message)


_BETWEEN = ("l0gate", "torch", "contextlib")  # packages whose stack frames are skipped


def warn(message: str) -> None:
    """Issue a `UserWarning` that points to the user's line of code that called l0gate."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=depth)
