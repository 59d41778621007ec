"""The picture of a report: the gates of every axis, and what every part costs."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from l0gate.reports.data import ReportData

_COLOURS = {"open": "tab:blue", "half_open": "#9ecae1", "closed": "0.88"}
_BEFORE, _AFTER = "0.75", "tab:blue"
_ROW = 0.34  # inches
_LONGEST = 28  # characters of a name


def draw(report: ReportData, format: str) -> bytes:
    """The picture as a file's content, in a format that matplotlib knows: png, pdf or svg."""
    buffer = io.BytesIO()
    picture(report).savefig(buffer, format=format, dpi=120)
    return buffer.getvalue()


def picture(report: ReportData) -> Figure:
    """A bar chart of the axes; below it two of the parts: parameters and multiply-adds."""
    heights = [1.2 + _ROW * len(report.axes)]
    if report.parts:
        heights.append(1.4 + 1.4 * _ROW * len(report.parts))
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    rows = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    _draw_axes(figure.add_subplot(rows[0, :]), report)
    if report.parts:
        parameters = figure.add_subplot(rows[1, 0])
        _draw_parts(parameters, report, "parameters")
        work = figure.add_subplot(rows[1, 1], sharey=parameters)
        _draw_parts(work, report, "multiply_adds")
        work.tick_params(labelleft=False)
        handles, labels = work.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False)
    return figure


def _draw_axes(axes: Axes, report: ReportData) -> None:
    """A bar per axis: open, half-open and closed gates; a black line marks how many are kept."""
    rows = range(len(report.axes))
    start = [0.0] * len(report.axes)
    for gates, colour in _COLOURS.items():
        lengths = [getattr(a, gates) / a.before for a in report.axes]
        name = gates.replace("_", "-")
        axes.barh(rows, lengths, left=start, height=0.7, color=colour, label=name)
        start = [s + length for s, length in zip(start, lengths, strict=True)]
    for row, a in enumerate(report.axes):
        label = "after" if row == 0 else None  # once in the legend
        axes.plot(
            [a.after / a.before] * 2,
            [row - 0.42, row + 0.42],
            color="black",
            lw=2,
            label=label,
            clip_on=False,
        )
        note = "" if a.frozen is None else " (frozen)"
        axes.annotate(
            f"{a.before:,} → {a.after:,}{note}",
            (1, row),
            (6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(rows, [_short(a.axis) for a in report.axes])
    axes.set_ylim(len(report.axes) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("neurons of the axis")
    axes.set_title(_title(report), loc="left", pad=24)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2)


def _draw_parts(axes: Axes, report: ReportData, measure: str) -> None:
    """Two bars per part: what it costs before and after."""
    rows = range(len(report.parts))
    known = [p.before[measure] is not None for p in report.parts]
    for offset, label, colour in ((-0.2, "before", _BEFORE), (0.2, "after", _AFTER)):
        costs = [getattr(p, label)[measure] or 0 for p in report.parts]
        axes.barh([row + offset for row in rows], costs, height=0.4, color=colour, label=label)
    for row, part in enumerate(report.parts):
        before, after = part.before[measure], part.after[measure]
        text = f"{before:,.0f} → {after:,.0f}" if before else "0" if known[row] else "not counted"
        at = (max(before, after) if known[row] else 0, row)
        axes.annotate(text, at, (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, [_short(p.part) for p in report.parts])
    axes.set_ylim(len(report.parts) - 0.4, -0.6)
    largest = max(max(p.before[measure] or 0, p.after[measure] or 0) for p in report.parts)
    axes.set_xlim(0, 1.45 * largest if largest else 1)  # room for the numbers beside the bars
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    before, after = report.total(measure)
    name = measure.replace("_", "-") + (" per time step" if measure == "multiply_adds" else "")
    percent = f" ({after / before:.0%})" if before else ""
    axes.set_title(f"{name}: {before:,.0f} → {after:,.0f}{percent}", loc="left", fontsize=10)


def _title(report: ReportData) -> str:
    budget = report.budget
    text = f"{budget.after / budget.before:.1%} of the {report.counted} left"
    if budget.goal is not None:
        text += f", budget {budget.goal:.1%}"
    return text + ("" if report.selected else ", some neurons still undecided")


def _short(name: str) -> str:
    """Shorten a long name to its end, since names in one model often have the same beginning."""
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]
