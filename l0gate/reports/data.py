"""The figures of a report, as plain data; text, picture and JSON are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from l0gate._errors import check
from l0gate.layout.cost import MEASURES

OUTSIDE = "not in the layout"


@dataclass(frozen=True)
class AxisReport:
    """The neurons of one axis.

    `before` and `after` are how many the dense and the small model have. `open`, `half_open` and
    `closed` count the test-time gates that are 1, between 0 and 1, and 0. `frozen` is the reason
    why the axis is not pruned, or None.
    """

    axis: str
    before: int
    open: int
    half_open: int
    closed: int
    after: int
    frozen: str | None


@dataclass(frozen=True)
class PartReport:
    """What one part of the model costs, by measure, in the dense and in the small model.

    A part is the parameters of one module that write the same axes, such as a layer. Multiply-adds
    are counted per time step. They are None for parameters outside the layout, which does not say
    how these are used.
    """

    part: str
    parameters: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class BudgetReport:
    """The budget, and how much of it the model uses.

    `before`, `after` and `limit` are in the budget's measure; `expected`, `target` and `goal` are
    fractions of `before`. `target` is where the expected size should be now, `goal` where it
    should be at the end of training, and `limit` is the most that the small model may have. Without
    a budget (`Pruner(strength=...)`), `target`, `goal` and `limit` are None.
    """

    measure: str
    of: str | tuple[str, ...]
    before: Any
    after: Any
    expected: float
    target: float | None
    goal: float | None
    limit: int | None


@dataclass(frozen=True)
class ReportData:
    """All figures of a report. `l0gate.reports.report.Report` says what they mean."""

    axes: tuple[AxisReport, ...]
    parts: tuple[PartReport, ...]
    budget: BudgetReport
    progress: float
    selected: bool
    forced_open: int
    forced_closed: int

    def total(self, measure: str = "parameters") -> tuple[Any, Any]:
        """The cost before and after, in "parameters", "bytes" or "multiply_adds".

        The sum over the parts whose cost is known.
        """
        check(measure in MEASURES, f"`measure` is {measure!r}; it must be one of {MEASURES}")
        check(self.parts, "the report knows no parts; give `parameters` to `report`")
        before, after = (
            sum(cost[measure] for cost in costs if cost[measure] is not None)
            for costs in ([p.before for p in self.parts], [p.after for p in self.parts])
        )
        return before, after

    @property
    def counted(self) -> str:
        """What the budget counts, in words: "recurrent parameters", "bytes of the layout"."""
        of, unit = self.budget.of, self.budget.measure.replace("_", "-")
        if of == "recurrent":
            return f"recurrent {unit}"
        if of != "layout":
            return f"{unit} of {of if isinstance(of, str) else ', '.join(of)}"
        return f"{unit} of the layout" if any(p.part == OUTSIDE for p in self.parts) else unit

    def to_dict(self) -> dict[str, Any]:
        """All figures as dicts, lists, strings and numbers, which `json.dumps` takes."""
        content = {name: getattr(self, name) for name in ("progress", "selected")}
        content |= {"forced_open": self.forced_open, "forced_closed": self.forced_closed}
        total = None
        if self.parts:
            pairs = {measure: self.total(measure) for measure in MEASURES}
            total = {
                side: {measure: pair[i] for measure, pair in pairs.items()}
                for i, side in enumerate(("before", "after"))
            }
        return {
            "axes": [asdict(axis) for axis in self.axes],
            "parts": [{**asdict(part), "parameters": list(part.parameters)} for part in self.parts],
            "total": total,
            "budget": {
                **asdict(self.budget),
                "of": self.budget.of if isinstance(self.budget.of, str) else list(self.budget.of),
            },
            **content,
        }
