"""Methods of a pruner name a wrong argument, and leave other errors alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0gate import Budget, L0GateError, Layout, Pruner

PRUNER = Pruner(Layout({"w": "h <- h", "o": "_ <- h"}), Budget(parameters=0.9))
PARAMETERS = {"w": np.eye(4), "o": np.ones((2, 4))}
STATE = PRUNER.init(PARAMETERS, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (PARAMETERS, {}),
            r"^`state` is \{\}; it must be a gate state, as `Pruner.init` returns it$",
        ),
        (({}, STATE), r"^`parameters` is \{\}; it must map the names of the layout's parameters"),
        (({"w": 1, "o": 2}, STATE), r"^`parameters` is .* to arrays$"),
        ((PARAMETERS, STATE, {"x": 1}), r"^`noise` is \{'x': 1\}; it must be None or what"),
        (({"w": "long" * 99}, STATE), "^`parameters` is a dict; it must map"),
    ],
)
def test_the_wrong_argument_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        PRUNER.gate(*arguments)


def test_errors_of_the_callers_function_are_raised_again() -> None:
    small, kept = PRUNER.shrink(PARAMETERS, STATE)

    def apply(parameters: Any, x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        PRUNER.certify(apply, PARAMETERS, STATE, small, kept, [np.ones((1, 4))])


def test_too_few_arguments_are_an_ordinary_mistake() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'state'"):
        PRUNER.gate(PARAMETERS)  # type: ignore[call-arg]
