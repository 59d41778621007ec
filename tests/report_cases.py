"""A small layout with its gates, and reports made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate import Budget, Layout, Pruner
from l0gate.reports.data import AxisReport, BudgetReport, PartReport
from l0gate.reports.report import Report

PARAMETERS = {
    "embedding.weight": np.ones((7, 4)),
    "rnn.w": np.ones((12, 4)),
    "rnn.u": np.ones((12, 3), np.float32),
    "decoder.weight": np.ones((2, 3)),
    "scale": np.ones(5),
}


LAYOUT = Layout(
    {
        "embedding.weight": "_ -> x",
        "rnn.w": "(4 h) <- x",
        "rnn.u": "(4 h) <- h",
        "decoder.weight": "_ <- h",
    },
    uses={"embedding.weight": 0},
)


GATES = {"x": [3.0, 0.0, -1.0, -5.0], "h": [3.0, -5.0, 0.5]}


def made(budget: Budget | None = None, **options: Any) -> tuple[Pruner, dict[str, Any]]:
    pruner = Pruner(LAYOUT, budget, None if budget else 1e-3, **options)
    gates = {axis: values for axis, values in GATES.items() if axis not in pruner.freeze}
    return pruner, pruner.init(PARAMETERS, log_alpha=gates)


class Gated:
    """The least that `report` asks of a gated model."""

    frozen = {"x": "the caller sees it"}  # noqa: RUF012

    def __init__(self) -> None:
        self.pruner, self.state = made(freeze=["x"])

    def gate_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self.state, PARAMETERS


def expected(pruner: Pruner, state: dict[str, Any]) -> float:
    return float(pruner.expected_size(state)) / pruner.cost.total


def report_of(**changes: Any) -> Report:
    """A report of large figures, decided, without a budget, unless it is told otherwise."""
    cost = {"parameters": 2500000.0, "bytes": 1e7, "multiply_adds": 2500000.0}
    less = {"parameters": 1000000.0, "bytes": 4e6, "multiply_adds": 1000000.0}
    nothing = dict.fromkeys(cost, 0)
    content: dict[str, Any] = {
        "axes": (AxisReport("h", 12345, 10000, 0, 2345, 10000, None),),
        "parts": (
            PartReport("rnn", ("rnn.w",), cost, less),
            PartReport("empty", ("e",), nothing, nothing),
        ),
        "budget": BudgetReport(
            "multiply_adds", ("a", "b"), 2500000, 1000000, 0.4, None, None, None
        ),
        "progress": 1.0,
        "selected": True,
        "forced_open": 1,
        "forced_closed": 23,
    }
    return Report(**{**content, **changes})
