"""The text of a report: a table of axes, a table of parts, and sentences about the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0gate.layout.cost import MEASURES
from l0gate.reports.data import OUTSIDE, ReportData

_COLUMNS = ("parameters", "multiply_adds", "bytes")


def text(report: ReportData) -> str:
    """The tables and sentences that `print(report)` shows."""
    blocks = [_table(_axis_rows(report), left=(0, 6))]
    if report.parts:
        blocks.append(_table(_part_rows(report), left=(0,)))
    return "\n\n".join([*blocks, "\n".join(_sentences(report))])


def _axis_rows(report: ReportData) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("axis", "before", "open", "half-open", "closed", "after", "")]
    for a in report.axes:
        counts = (a.before, a.open, a.half_open, a.closed, a.after)
        note = "" if a.frozen is None else f"frozen: {a.frozen}"
        rows.append((a.axis, *(f"{count:,}" for count in counts), note))
    return rows


def _part_rows(report: ReportData) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("part", "parameters", "multiply-adds", "bytes", "left")]
    for part in report.parts:
        rows.append(_part_row(part.part, part.before, part.after))
    totals = {measure: report.total(measure) for measure in MEASURES}
    before, after = ({m: pair[i] for m, pair in totals.items()} for i in (0, 1))
    return [*rows, _part_row("total", before, after)]


def _part_row(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    figures = ["-" if before[m] is None else _change(before[m], after[m]) for m in _COLUMNS]
    # An empty array counts as 100% left.
    left = after["parameters"] / before["parameters"] if before["parameters"] else 1.0
    return (part, *figures, f"{left:.0%}")


def _change(before: Any, after: Any) -> str:
    return f"{before:,.0f}" if before == after else f"{before:,.0f} -> {after:,.0f}"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _sentences(report: ReportData) -> list[str]:
    budget, unit = report.budget, report.counted
    small = f"the small model has {budget.after:,.0f} ({budget.after / budget.before:.1%})"
    if budget.limit is None:
        lines = [f"Of {budget.before:,.0f} {unit} {small}."]
    else:
        lines = [f"Budget: {budget.limit:,.0f} of {budget.before:,.0f} {unit}; {small}."]
    lines.append(f"Expected size {budget.expected:.1%} at progress {report.progress:.0%}")
    if budget.target is not None:
        lines[-1] += f", where the target is {budget.target:.1%}"
    lines[-1] += "."
    if any(part.part == OUTSIDE for part in report.parts):
        kind = "bytes" if budget.measure == "bytes" else "parameters"
        before, after = report.total(kind)
        change = f"{before:,.0f} {kind} to {after:,.0f} ({after / before:.1%})"
        lines.insert(1, f"The whole model goes from {change}.")
    if report.selected:
        lines.append(
            f"Every neuron is decided: against their gates, {report.forced_open} were opened and"
            f" {report.forced_closed} closed."
        )
    else:
        lines.append("Some neurons are undecided: `after` is what shrinking would keep now.")
    return lines
