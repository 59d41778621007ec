"""What a pruner refuses: kept indices, progress, log_alpha and models that do not fit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from cases import arrays_for
from pruner_cases import LAYOUT, fresh

from l0gate import Budget, L0GateError
from l0gate._checks import check_kept

OPEN = {"x": np.array([True, False]), "h": np.array([False, True, False, True])}


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (None, "`kept` must give the indices of the axes x, h"),
        ({"h": [1, 3]}, "`kept` must give the indices of the axes x, h"),
        ({"x": [0], "h": [1, 3], "z": [0]}, "`kept` must give the indices of the axes x, h"),
        *(
            ({"x": [0], "h": wrong}, "`kept['h']` must be sorted indices of the axis's 4 neurons")
            for wrong in (
                [[1, 3]],
                [1.0, 3.0],
                np.zeros(0, int),
                [3, 1],
                [1, 1, 3],
                [-1, 1, 3],
                [1, 3, 4],
            )
        ),
        (
            {"x": [0], "h": [0, 2]},
            "`kept['h']` leaves out neurons whose gates are open: [1, 3]",
        ),
        ({"x": [1], "h": [1, 3]}, "`kept['x']` leaves out neurons whose gates are open: [0]"),
    ],
)
def test_indices_that_cannot_be_kept(kept: Any, message: str) -> None:
    if kept is not None:
        kept = {axis: np.array(index) for axis, index in kept.items()}
    with pytest.raises(L0GateError) as error:
        check_kept(kept, OPEN)
    assert str(error.value) == message


def test_indices_that_can_be_kept() -> None:
    check_kept({"x": np.array([0]), "h": np.array([1, 3], np.uint8)}, OPEN)
    check_kept({"x": np.arange(2), "h": np.arange(4)}, OPEN)


def test_bad_progress_log_alpha_and_models() -> None:
    pruner, parameters, state = fresh(Budget(parameters=0.5))
    for progress in (-0.1, 1.5, float("nan")):
        with pytest.raises(L0GateError, match=r"`progress` is .*; it must be in \[0, 1\]"):
            pruner.penalty(state, progress)
    state["log_alpha"]["h0"] = np.array([1.0, np.nan, 0, 0, np.inf])
    for action in (pruner.select, pruner.kept, lambda s: pruner.shrink(parameters, s)):
        with pytest.raises(L0GateError, match=r"`log_alpha\['h0'\]` is nan at neuron 1 \(2 of 5"):
            action(state)
    for values, message in (
        ({"y": np.zeros(3)}, "names the axis 'y'"),
        ({"x": "abc"}, "`log_alpha['x']` is 'abc'; it must be an array of numbers"),
        (5, "`log_alpha` is 5; it must map axes to arrays"),
        ({"x": np.zeros(3)}, "has shape (3,); the axis has 4"),
        ({"x": np.full(4, np.nan)}, "`log_alpha['x']` is nan at neuron 0"),
    ):
        with pytest.raises(L0GateError, match=re.escape(message)):
            pruner.init(parameters, log_alpha=values)
    with pytest.raises(L0GateError, match="the parameters belong to another model"):
        pruner.init(arrays_for(LAYOUT, {"x": 4, "h0": 5, "h1": 7}))
    with pytest.raises(L0GateError, match=r"names the parameter 'rnn.weight_hh_l1'"):
        pruner.init({n: v for n, v in parameters.items() if n != "rnn.weight_hh_l1"})
