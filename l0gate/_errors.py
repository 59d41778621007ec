"""The one base class of every error, and the one way to raise it from a failed check."""

from __future__ import annotations


class L0GateError(ValueError):
    """Raised for every bad input or broken promise; the message names what was given and allowed.

    >>> raise L0GateError("`beta` is 0; it must be above 0")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `beta` is 0; it must be above 0
    """


def check(condition: object, message: str) -> None:
    """Raise `L0GateError(message)` unless the condition holds."""
    if not condition:
        raise L0GateError(message)
