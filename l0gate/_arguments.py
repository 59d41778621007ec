"""Says which argument of a public method was wrong, when the method has failed.

Checking every argument in every call would slow down training steps. So arguments are looked at
only after an error of Python's own, such as a TypeError. If one of them is not what the method
takes, `L0GateError` names it; otherwise the error is not about the arguments, and is raised again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from l0gate._errors import L0GateError

_BARE = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError, StopIteration)
_F = TypeVar("_F", bound=Callable[..., Any])


def _numeric(value: Any) -> bool:
    """Whether a value is an array of numbers of any framework."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    return not isinstance(value, type) and hasattr(value, "shape") and kind in "biuf"


def _parameters(pruner: Any, value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _numeric(value.get(n)) for n in pruner.layout.patterns
    )


def _by_axis(pruner: Any, value: Any) -> bool:
    return isinstance(value, Mapping) and all(_numeric(value.get(a)) for a in pruner.layout.axes)


def _state(pruner: Any, value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(_by_axis(pruner, value.get(key)) for key in ("log_alpha", "mask"))


def _progress(pruner: Any, value: Any) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    return _numeric(value) and tuple(value.shape) == ()


def _rng(pruner: Any, value: Any) -> bool:
    if isinstance(value, tuple):  # a counter-based generator: see `Backend.rng`
        return all(isinstance(part, int) for part in value)
    return not isinstance(value, (str, bytes, list, dict, type, type(None))) and not callable(value)


# parameter -> (whether a value is right, what it must be)
_EXPECTED: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "parameters": (_parameters, "must map the names of the layout's parameters to arrays"),
    "gradients": (_parameters, "must map the names of the layout's parameters to arrays"),
    "state": (_state, "must be a gate state, as `Pruner.init` returns it"),
    "noise": (
        lambda pruner, value: value is None or _by_axis(pruner, value),
        "must be None or what `Pruner.noise` returned: an array for every axis",
    ),
    "progress": (_progress, "must be a number from 0 to 1"),
    "rng": (_rng, "must be an int, or a generator of the backend"),
    "apply": (lambda pruner, value: callable(value), "must be a function"),
    "apply_small": (lambda pruner, value: value is None or callable(value), "must be a function"),
    "inputs": (
        lambda pruner, value: isinstance(value, Iterable) and not isinstance(value, (str, type)),
        "must be a list of inputs",
    ),
    "small": (
        lambda pruner, value: isinstance(value, Mapping),
        "must map the names of the layout's parameters to arrays; of another kind of model, give"
        " `apply_small`",
    ),
    "equal": (
        lambda pruner, value: isinstance(value, (list, tuple)),
        "must be a list of groups of axes",
    ),
}


def names_wrong_arguments(method: _F) -> _F:
    """Decorate a method of a pruner: an error that a wrong argument caused names the argument."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except L0GateError:
            raise
        except _BARE:
            try:
                given = signature.bind(self, *args, **kwargs).arguments
            except TypeError:  # too few or too many arguments
                given = {}
            for name, value in given.items():
                if name in _EXPECTED and not _EXPECTED[name][0](self, value):
                    shown = repr(value)
                    shown = shown if len(shown) < 100 else f"a {type(value).__name__}"
                    message = f"`{name}` is {shown}; it {_EXPECTED[name][1]}"
                    raise L0GateError(message) from None
            raise

    return run  # type: ignore[return-value]
