"""The table of operations: it has what the documentation promises that the algorithm uses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate.testing._operations import BROADCASTING, EXTREMES, OPERATIONS, SCALARS, X, Y


class Recorder:
    """NumPy that notes which of its functions are asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(np, name)


def test_every_function_that_a_backend_must_have_is_tried() -> None:
    recorder = Recorder()
    for operation in OPERATIONS.values():
        operation.compute(recorder, X, Y)
    listed = re.search(r"From `xp` it uses (.*?)\. The", l0gate.Backend.__doc__ or "", re.DOTALL)
    assert listed is not None
    promised = set(re.findall(r"[a-z_][a-z_0-9]+", re.sub(r"\(.*?\)", "", listed[1])))
    assert recorder.asked == promised - {"and"}


@pytest.mark.parametrize("text", OPERATIONS)
def test_an_expression_is_what_its_name_says(text: str) -> None:
    functions = {name: getattr(np, name) for name in dir(np) if not name.startswith("_")}
    wanted = eval(text, functions | {"x": X, "y": Y})
    np.testing.assert_array_equal(OPERATIONS[text].compute(np, X, Y), wanted)


def test_only_boolean_and_constant_results_have_no_gradient() -> None:
    flat = {text for text, operation in OPERATIONS.items() if not operation.smooth}
    for text, operation in OPERATIONS.items():
        found, moved = (np.asarray(operation.compute(np, x, Y)) for x in (X, X + 1e-3))
        other = np.asarray(operation.compute(np, X, Y + 1e-3))
        changes = not (np.array_equal(found, moved) and np.array_equal(found, other))
        assert (text in flat) == (found.dtype.kind == "b" or not changes), text


def test_the_groups_are_of_the_table() -> None:
    assert {*BROADCASTING, *SCALARS, *(text for text, *_ in EXTREMES)} <= set(OPERATIONS)
