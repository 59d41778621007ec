"""Sizes from the shapes of arrays, and shapes that do not fit."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for

from l0gate import L0GateError, Layout


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_solved_from_arrays(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    assert layout.solve(arrays_for(layout, sizes)) == sizes


MISFITS = [
    ({"w": (8, 3)}, "the layout names the parameter 'u', which the model does not have"),
    ({"w": (8, 3), "u": (8,)}, "parameter 'u' has shape (8,); its pattern '(4 h) <- h' has 2"),
    ({"w": (9, 3), "u": (8, 2)}, "parameter 'w' has shape (9, 3)"),
    ({"w": (8, 3), "u": (8, 3)}, "dimension 1 is 3, but h is 2 with h = 2"),
    ({"w": (9, 3), "u": (9, 2)}, "parameter 'w' has shape (9, 3)"),
    ({"w": (8, 0), "u": (8, 2)}, "leaves no whole size above 0 for x in x"),
]


@pytest.mark.parametrize(("shapes", "message"), MISFITS)
def test_arrays_that_do_not_fit(shapes: dict, message: str) -> None:
    layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h"})
    with pytest.raises(L0GateError, match=re.escape(message)):
        layout.solve({name: np.zeros(shape) for name, shape in shapes.items()})


def test_an_axis_used_with_two_sizes_is_named() -> None:
    layout = Layout({"a": "_ <- h", "b": "_ <- h"})
    with pytest.raises(L0GateError, match=r"parameter 'b' has shape \(2, 5\).*with h = 4"):
        layout.solve({"a": np.zeros((2, 4)), "b": np.zeros((2, 5))})


def test_open_sizes_must_be_given() -> None:
    patterns = {"w": "_ <- (f + b)"}
    parameters = {"w": np.zeros((2, 5))}
    with pytest.raises(L0GateError, match=r"do not fix the size of 'f', 'b'.*`sizes=`"):
        Layout(patterns).solve(parameters)
    assert Layout(patterns, sizes={"f": 2}).solve(parameters) == {"f": 2, "b": 3}
    with pytest.raises(L0GateError, match="patterns for the slices"):
        Layout({"w": ["_ <- f", "_ <- f"]}).solve(parameters | {"w": np.zeros((3, 2, 2))})
