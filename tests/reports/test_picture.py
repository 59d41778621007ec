"""The picture of a report, as a person sees it: names, bars, figures, legends and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_cases import PARAMETERS, made

import l0gate
from l0gate import Budget
from l0gate.reports.data import AxisReport, BudgetReport, PartReport
from l0gate.reports.report import Report

pytest.importorskip("matplotlib")
from pictures import bars, beside, boxes, image_size, legend, notes, readable, rows, words

from l0gate.reports.picture import draw, picture

LONG = "encoder.blocks.0.recurrent.hidden"
REPORT = Report(
    axes=(
        AxisReport("x", 4000, 4000, 0, 0, 4000, "the caller sees it"),
        AxisReport(LONG, 8, 2, 4, 2, 5, None),
    ),
    parts=(
        PartReport(
            "embedding",
            ("embedding.weight",),
            {"parameters": 1200, "bytes": 4800, "multiply_adds": 0},
            {"parameters": 900, "bytes": 3600, "multiply_adds": 0},
        ),
        PartReport(
            "decoder",
            ("decoder.weight",),
            {"parameters": 800, "bytes": 3200, "multiply_adds": 2400},
            {"parameters": 100, "bytes": 400, "multiply_adds": 600},
        ),
        PartReport(
            "not in the layout",
            ("scale",),
            {"parameters": 5, "bytes": 20, "multiply_adds": None},
            {"parameters": 5, "bytes": 20, "multiply_adds": None},
        ),
    ),
    budget=BudgetReport("parameters", "layout", 2000, 1001, 0.6, 0.7, 0.505, 1010),
    progress=0.5,
    selected=False,
    forced_open=0,
    forced_closed=0,
)


def test_the_axes_of_a_report() -> None:
    figure = picture(REPORT)
    readable(figure)
    axes = figure.axes[0]
    assert rows(axes) == ["x", "…r.blocks.0.recurrent.hidden"]
    colours = legend(axes)
    assert set(colours) == {"open", "half-open", "closed", "after"}
    # Every bar is as long as the share of its neurons, and begins where the one before ends.
    assert bars(axes, colours["open"]) == [(0, 1), (0, 0.25)]
    assert bars(axes, colours["half-open"]) == [(1, 1), (0.25, 0.75)]
    assert bars(axes, colours["closed"]) == [(1, 1), (0.75, 1)]
    # An upright line marks what is kept, on the bar of its own axis.
    for line, row, share in zip(axes.lines, axes.get_yticks(), (1, 5 / 8), strict=True):
        assert set(line.get_xdata()) == {share}
        assert min(line.get_ydata()) < row < max(line.get_ydata())
    assert axes.get_xlim() == (0, 1)
    assert axes.xaxis.get_major_formatter()(0.25) == "25%"
    assert axes.get_xlabel() == "neurons of the axis"
    assert notes(axes) == ["4,000 → 4,000 (frozen)", "8 → 5"]
    beside(axes, axes.texts, [1, 1])
    title = "50.0% of the parameters of the layout left, budget 50.5%, some neurons still undecided"
    assert axes.get_title(loc="left") == title


def test_the_parts_of_a_report() -> None:
    figure = picture(REPORT)
    readable(figure)
    parameters, work = figure.axes[1:]
    colours = legend(figure)
    assert set(colours) == {"before", "after"}
    # Both diagrams tell of the same parts, in the same order; the names stand once, at the left.
    assert rows(parameters) == ["embedding", "decoder", "not in the layout"]
    assert rows(work) == []
    assert parameters.get_shared_y_axes().joined(parameters, work)
    assert parameters.get_window_extent().x1 < work.get_window_extent().x0
    # Every bar is as long as its figure.
    assert bars(parameters, colours["before"]) == [(0, 1200), (0, 800), (0, 5)]
    assert bars(parameters, colours["after"]) == [(0, 900), (0, 100), (0, 5)]
    assert bars(work, colours["before"]) == [(0, 0), (0, 2400), (0, 0)]
    assert bars(work, colours["after"]) == [(0, 0), (0, 600), (0, 0)]
    assert notes(parameters) == ["1,200 → 900", "800 → 100", "5 → 5"]
    assert notes(work) == ["0", "2,400 → 600", "not counted"]
    beside(parameters, parameters.texts, [1200, 800, 5])
    beside(work, work.texts, [0, 2400, 0])
    # The figures stand inside their own diagram, beside the longest bar too.
    for axes in (parameters, work):
        right = axes.get_window_extent().x1
        assert all(note.get_window_extent().x1 < right for note in axes.texts)
    assert parameters.xaxis.get_major_formatter()(2000.0) == "2k"
    assert len(parameters.get_xticks()) <= 6
    assert parameters.get_title(loc="left") == "parameters: 2,005 → 1,005 (50%)"
    assert work.get_title(loc="left") == "multiply-adds per time step: 2,400 → 600 (25%)"


def test_before_stands_above_after() -> None:
    figure = picture(REPORT)
    figure.draw_without_rendering()
    colours = legend(figure)
    for axes in figure.axes[1:]:
        upper, lower = (boxes(axes, colours[name]) for name in ("before", "after"))
        assert all(u.y0 >= b.y1 - 1 for u, b in zip(upper, lower, strict=True))


def test_a_report_without_parts_or_goal() -> None:
    budget = replace(REPORT.budget, after=650, target=None, goal=None, limit=None)
    figure = picture(replace(REPORT, parts=(), budget=budget, selected=True))
    readable(figure)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title(loc="left") == "32.5% of the parameters left"
    nothing = {"parameters": 0, "bytes": 0, "multiply_adds": 0}
    idle = PartReport("idle", ("w",), nothing, nothing)
    figure = picture(replace(REPORT, parts=(idle,)))
    readable(figure)
    left, right = figure.axes[1].get_xlim()
    assert left == 0 < right
    assert figure.axes[1].get_title(loc="left") == "parameters: 0 → 0"


def test_long_names_lose_their_beginning() -> None:
    report = replace(REPORT, axes=(replace(REPORT.axes[0], axis="n" * 28),))
    assert words(picture(report).axes[0].get_yticklabels()) == ["n" * 28]
    report = replace(REPORT, axes=(replace(REPORT.axes[0], axis="first" + "n" * 27),))
    assert words(picture(report).axes[0].get_yticklabels()) == ["…" + "n" * 27]


def test_the_image_of_a_report() -> None:
    """It is 10 inches wide, and grows with what it shows."""
    alone = replace(REPORT, parts=())
    more = replace(alone, axes=REPORT.axes * 10)
    heights = []
    for report in (alone, REPORT, more):
        width, height = image_size(draw(report, "png"))
        assert width == pytest.approx(10, abs=0.1)
        heights.append(height)
        readable(picture(report))
    assert 1.5 < heights[0] < 3 < heights[1] < 6 < heights[2] < 10


@pytest.mark.parametrize(
    ("suffix", "parameters"), [(".png", None), (".PDF", PARAMETERS), (".svg", PARAMETERS)]
)
def test_the_files_of_a_picture(tmp_path: Path, suffix: str, parameters: Any) -> None:
    path = tmp_path / f"report{suffix}"
    l0gate.report(*made(Budget(parameters=0.5), freeze=["x"]), parameters).plot(path)
    start = {".png": b"\x89PNG", ".PDF": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)
