"""The figures of a report: plain numbers and names, ready for a table, a picture or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from l0gate._errors import check
from l0gate.layout.cost import MEASURES

OUTSIDE = "not in the layout"


@dataclass(frozen=True)
class AxisReport:
    """The neurons of one axis: how many there were, what their gates are at test time, how many
    the small model keeps. `frozen` is why the axis stays whole, or None."""

    axis: str
    before: int
    open: int
    half_open: int
    closed: int
    after: int
    frozen: str | None


@dataclass(frozen=True)
class PartReport:
    """What some parameters cost in the dense and in the small model, by measure.

    `parameters` are those of one module that write the same axes. Multiply-adds are counted per
    time step, and None for parameters outside the layout, about which it says nothing.
    """

    part: str
    parameters: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class BudgetReport:
    """The budget, in its own measure; `expected`, `target` and `goal` are fractions of `before`.

    `target` is the goal of this moment in training, `goal` and `limit` those of its end. Without
    a budget (`Pruner(strength=...)`) these three are None.
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
    """All figures of a report: see `l0gate.reports.report.Report`."""

    axes: tuple[AxisReport, ...]
    parts: tuple[PartReport, ...]
    budget: BudgetReport
    progress: float
    selected: bool
    forced_open: int
    forced_closed: int

    def total(self, measure: str = "parameters") -> tuple[Any, Any]:
        """What all parts cost before and after, in "parameters", "bytes" or "multiply_adds"."""
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
        """All figures as dicts, lists, strings and numbers: ready for `json.dumps`."""
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
