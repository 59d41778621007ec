"""JSON for files of weights: read without trust, written with the fewest digits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from l0gate._errors import L0GateError, check

__all__ = ["array", "integer", "numbers", "parse", "section", "text"]


def parse(content: bytes) -> dict[str, Any]:
    """The JSON object that a file holds. Anything else raises `L0GateError`.

    >>> parse(b'{"layers": []}')
    {'layers': []}
    """

    def refuse(constant: str) -> NoReturn:
        raise L0GateError(f"holds {constant}, which is no number of JSON")

    try:
        found = json.loads(content, parse_constant=refuse)
    except L0GateError:
        raise
    except RecursionError:
        raise L0GateError("is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise L0GateError(f"is no JSON, or is truncated: {error}") from None
    check(isinstance(found, dict), f"holds {type(found).__name__}; expected a JSON object")
    return dict(found)


def section(holder: Any, key: str, kind: type[Any], where: str = "") -> Any:
    """`holder[key]`, which must be there and of that type."""
    inside = f" in {where}" if where else ""
    check(isinstance(holder, dict) and key in holder, f"lacks `{key}`{inside}")
    found = holder[key]
    check(
        isinstance(found, kind) and not (kind is int and isinstance(found, bool)),
        f"has `{key}` {str(found)[:80]!r}{inside}; expected {kind.__name__}",
    )
    return found


def integer(holder: Any, key: str, least: int = 1, where: str = "") -> int:
    """`holder[key]`, which must be an int from `least` to 2^24."""
    found = section(holder, key, int, where)
    inside = f" in {where}" if where else ""
    check(
        least <= found <= 2**24,
        f"has `{key}` {str(found)[:30]}{inside}; expected an int from {least} to {2**24}",
    )
    return int(found)


def array(values: Any, shape: Sequence[int | None], what: str) -> np.ndarray:
    """Nested lists of numbers as float32. A size of None in `shape` fits any length above 0.

    >>> array([[1, 2.5]], (None, 2), "the kernel").tolist()
    [[1.0, 2.5]]
    """
    check(isinstance(values, list), f"{what} is {str(values)[:40]!r}; expected a list of numbers")
    try:
        found = np.array(values)
    except (ValueError, RecursionError, MemoryError):
        raise L0GateError(f"{what} is no regular array of numbers") from None
    check(found.dtype.kind in "iuf", f"{what} holds {found.dtype.name}, not numbers")
    fits = found.ndim == len(shape) and all(
        size in (None, have) for size, have in zip(shape, found.shape, strict=True)
    )
    expected = ", ".join("any" if size is None else str(size) for size in shape)
    check(fits and found.size > 0, f"{what} has shape {found.shape}; expected ({expected})")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def numbers(values: np.ndarray) -> Any:
    """An array as nested lists of the shortest numbers that give the same float32 back.

    >>> numbers(np.array([0.1, 1 / 3], np.float32))
    [0.1, 0.33333334]
    """
    exact = np.asarray(values, np.float32)
    short = exact.astype(str).astype(np.float64)
    return np.where(short.astype(np.float32) == exact, short, exact.astype(np.float64)).tolist()


def text(value: Any) -> bytes:
    """A JSON object as the bytes of a file."""
    try:
        return json.dumps(value, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise L0GateError(f"`metadata` must be plain JSON: {error}") from None
