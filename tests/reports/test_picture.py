"""What the pictures show: every bar, line, mark, figure and name in them, with its colour."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from l0gate.reports.data import AxisReport, BudgetReport, PartReport
from l0gate.reports.report import Report

pytest.importorskip("matplotlib")
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine

from l0gate.cli import _picture
from l0gate.reports import picture

BLUE, LIGHT_BLUE, ORANGE = "#1f77b4", "#9ecae1", "#ff7f0e"


def bars(axes: Axes) -> dict[str, tuple[str, list[tuple[float, ...]]]]:
    """By label, the colour of some bars and (left, right, from, to) of each."""
    found = {}
    for container in axes.containers:
        boxes = [patch.get_bbox() for patch in container]
        extents = [tuple(np.round([b.x0, b.x1, b.y0, b.y1], 6).tolist()) for b in boxes]
        found[container.get_label()] = (to_hex(container[0].get_facecolor()), extents)
    return found


def notes(axes: Axes, *beside: float) -> list[tuple[str, tuple[float, float]]]:
    """The figures written into a diagram, and where: so many points beside what they tell of."""
    for text in axes.texts:
        if beside:
            assert (text.xyann, text.anncoords) == (beside, "offset points")
            assert (text.get_va(), text.get_ha()) == ("center", "left")
        else:
            assert text.xyann == text.xy
            assert (text.get_va(), text.get_ha()) == ("bottom", "left")
    return [(text.get_text(), text.xy) for text in axes.texts]


def names(ticks: list[Any]) -> list[str]:
    return [tick.get_text() for tick in ticks]


def legend(holder: Axes | Figure) -> list[str]:
    found = holder.get_legend() if isinstance(holder, Axes) else holder.legends[0]
    return names(found.get_texts())


def grid(figure: Figure) -> list[tuple[list[int], list[int]]]:
    """The rows and columns that each diagram takes."""
    spans = [axes.get_subplotspec() for axes in figure.axes]
    return [(list(s.rowspan), list(s.colspan)) for s in spans]


# The report -----------------------------------------------------------------------------------

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
    figure = picture.picture(REPORT)
    axes = figure.axes[0]
    heights = [1.2 + 0.34 * 2, 1.4 + 1.4 * 0.34 * 3]
    np.testing.assert_allclose(figure.get_size_inches(), (10, sum(heights)))
    assert axes.get_gridspec().get_height_ratios() == pytest.approx(heights)
    assert isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
    assert grid(figure) == [([0], [0, 1]), ([1], [0]), ([1], [1])]
    assert bars(axes) == {
        "open": (BLUE, [(0.0, 1.0, -0.35, 0.35), (0.0, 0.25, 0.65, 1.35)]),
        "half-open": (LIGHT_BLUE, [(1.0, 1.0, -0.35, 0.35), (0.25, 0.75, 0.65, 1.35)]),
        "closed": ("#e0e0e0", [(1.0, 1.0, -0.35, 0.35), (0.75, 1.0, 0.65, 1.35)]),
    }
    # A black line where the small model ends, explained once.
    whole, cut = axes.lines
    np.testing.assert_allclose(whole.get_xydata(), [[1, -0.42], [1, 0.42]])
    np.testing.assert_allclose(cut.get_xydata(), [[0.625, 0.58], [0.625, 1.42]])
    assert whole.get_color() == cut.get_color() == "black"
    assert legend(axes) == ["after", "open", "half-open", "closed"]
    assert notes(axes, 6, 0) == [("4,000 → 4,000 (whole)", (1, 0)), ("8 → 5", (1, 1))]
    assert names(axes.get_yticklabels()) == ["x", "…r.blocks.0.recurrent.hidden"]
    assert list(axes.get_yticks()) == [0, 1]
    assert axes.get_ylim() == (1.6, -0.6)
    assert axes.get_xlim() == (0, 1)
    assert axes.xaxis.get_major_formatter()(0.25) == "25%"
    assert axes.get_xlabel() == "neurons of the axis"
    title = "50.0% of the parameters of the layout left, budget 50.5%, some neurons still undecided"
    assert axes.get_title(loc="left") == title


def test_the_parts_of_a_report() -> None:
    figure = picture.picture(REPORT)
    parameters, work = figure.axes[1:]
    assert bars(parameters) == {
        "before": (
            "#bfbfbf",
            [(0, 1200, -0.4, 0.0), (0, 800, 0.6, 1.0), (0, 5, 1.6, 2.0)],
        ),
        "after": (BLUE, [(0, 900, 0.0, 0.4), (0, 100, 1.0, 1.4), (0, 5, 2.0, 2.4)]),
    }
    assert bars(work)["before"][1] == [(0, 0, -0.4, 0.0), (0, 2400, 0.6, 1.0), (0, 0, 1.6, 2.0)]
    assert bars(work)["after"][1] == [(0, 0, 0.0, 0.4), (0, 600, 1.0, 1.4), (0, 0, 2.0, 2.4)]
    assert notes(parameters, 4, 0) == [
        ("1,200 → 900", (1200, 0)),
        ("800 → 100", (800, 1)),
        ("5 → 5", (5, 2)),
    ]
    assert notes(work, 4, 0) == [("0", (0, 0)), ("2,400 → 600", (2400, 1)), ("not counted", (0, 2))]
    assert names(parameters.get_yticklabels()) == ["embedding", "decoder", "not in the layout"]
    assert list(parameters.get_yticks()) == [0, 1, 2]
    assert parameters.get_ylim() == work.get_ylim() == (2.6, -0.6)
    assert (parameters.get_xlim(), work.get_xlim()) == ((0, 1.45 * 1200), (0, 1.45 * 2400))
    assert parameters.xaxis.get_major_formatter()(2000.0) == "2k"
    assert len(parameters.get_xticks()) <= 6
    assert parameters.get_shared_y_axes().joined(parameters, work)
    assert parameters.get_title(loc="left") == "parameters: 2,005 → 1,005 (50%)"
    assert work.get_title(loc="left") == "multiply-adds per time step: 2,400 → 600 (25%)"
    assert legend(figure) == ["before", "after"]
    # The names of the parts stand once, at the left.
    assert parameters.yaxis.get_tick_params()["labelleft"]
    assert not work.yaxis.get_tick_params()["labelleft"]


def test_a_report_without_parts_or_goal() -> None:
    budget = replace(REPORT.budget, after=650, target=None, goal=None, limit=None)
    figure = picture.picture(replace(REPORT, parts=(), budget=budget, selected=True))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title(loc="left") == "32.5% of the parameters left"
    nothing = {"parameters": 0, "bytes": 0, "multiply_adds": 0}
    idle = PartReport("idle", ("w",), nothing, nothing)
    figure = picture.picture(replace(REPORT, parts=(idle,)))
    assert figure.axes[1].get_xlim() == (0, 1)
    assert figure.axes[1].get_title(loc="left") == "parameters: 0 → 0"


def test_names_of_28_characters_are_whole() -> None:
    report = replace(REPORT, axes=(replace(REPORT.axes[0], axis="n" * 28),))
    assert names(picture.picture(report).axes[0].get_yticklabels()) == ["n" * 28]


def test_the_size_of_the_image_of_a_report() -> None:
    image = imread(io.BytesIO(picture.draw(replace(REPORT, parts=()), "png")))
    assert image.shape[:2] == (int(120 * (1.2 + 2 * 0.34)), 1200)


# The job --------------------------------------------------------------------------------------

JOB = {
    "text": {"name": "book.txt", "unit": "character"},
    "dense": {"input_size": 6, "hidden_sizes": [4, 8]},
    "gated": {"input_size": 6, "hidden_sizes": [4, 8]},
    "small": {"input_size": 6, "hidden_sizes": [2, 3]},
    "direct": {"input_size": 6, "hidden_sizes": [2, 3]},
    "budget": {"of": "recurrent parameters", "dense": 800, "limit": 324},
}
KEPT = {"x": np.arange(6), "h0": np.array([0, 3]), "h1": np.array([1, 2, 7])}
SIZES = {"x": 6, "h0": 4, "h1": 8}


def phases() -> dict[str, Any]:
    """A loss of one bit more every two steps, and a size that falls by a hundredth a step."""
    losses = [math.log(2) * (k // 2) for k in range(80)]
    shares = [1 - k / 100 for k in range(80)]
    return {
        "gated": SimpleNamespace(losses=losses, shares=shares, step=80),
        "dense": SimpleNamespace(losses=losses[:3], shares=[1.0] * 3, step=3),
        "direct": SimpleNamespace(losses=losses[2:4], shares=[1.0] * 2, step=2),
    }


def test_the_losses_of_a_job() -> None:
    figure = _picture.picture(JOB, phases(), KEPT, SIZES)
    losses, shares, _ = figure.axes
    assert tuple(figure.get_size_inches()) == (9, 7.5)
    assert losses.get_gridspec().get_height_ratios() == pytest.approx([3, 2, 0.5 + 0.35 * 3])
    assert isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
    assert grid(figure) == [([0], [0]), ([1], [0]), ([2], [0])]
    assert shares.get_shared_x_axes().joined(losses, shares)
    gated, dense, direct = losses.lines
    np.testing.assert_array_equal(gated.get_xdata(), np.arange(2, 81, 2))
    np.testing.assert_allclose(gated.get_ydata(), np.arange(40), atol=1e-12)
    np.testing.assert_array_equal(dense.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(dense.get_ydata(), [0, 0, 1])
    np.testing.assert_allclose(direct.get_ydata(), [1, 1])
    assert [to_hex(line.get_color()) for line in losses.lines] == [BLUE, "#8c8c8c", ORANGE]
    assert legend(losses) == [
        "gated 6 -> 4 -> 8, shrunk to 6 -> 2 -> 3",
        "dense 6 -> 4 -> 8",
        "direct 6 -> 2 -> 3",
    ]
    assert losses.get_ylabel() == "training loss\n(bits per character)"
    assert losses.get_title() == "book.txt: loss, size, and the neurons that stayed"


def test_the_size_over_a_job() -> None:
    shares = _picture.picture(JOB, phases(), KEPT, SIZES).axes[1]
    size, budget = shares.lines
    np.testing.assert_array_equal(size.get_xdata(), np.arange(1, 81))
    np.testing.assert_allclose(size.get_ydata(), 1 - np.arange(80) / 100)
    assert to_hex(size.get_color()) == BLUE
    assert list(budget.get_ydata()) == [0.405, 0.405]
    assert (budget.get_linestyle(), to_hex(budget.get_color())) == ("--", "#4c4c4c")
    assert notes(shares) == [("budget 40%", (0, 0.405))]
    assert shares.get_ylim() == (0, 1.05)
    assert shares.get_ylabel() == "expected size\n(recurrent parameters)"
    assert shares.get_xlabel() == "step"
    free = _picture.picture({**JOB, "budget": None}, phases(), KEPT, SIZES).axes[1]
    assert len(free.lines) == 1
    assert notes(free) == []
    assert free.get_ylabel() == "expected size\n(parameters)"


def test_the_neurons_that_stayed_in_a_job() -> None:
    neurons = _picture.picture(JOB, phases(), KEPT, SIZES).axes[2]
    drawn = []
    for collection in neurons.collections:
        boxes = [path.get_extents() for path in collection.get_paths()]
        extents = [[b.x0, b.x1, b.y0, b.y1] for b in boxes]
        drawn.append((to_hex(collection.get_facecolor()), extents))
    assert [colour for colour, _ in drawn] == ["#ebebeb", BLUE] * 3
    for row, (axis, index) in enumerate(KEPT.items()):
        height = [row - 0.4, row + 0.4]
        np.testing.assert_allclose(drawn[2 * row][1], [[0, 1, *height]])
        wide = 1 / SIZES[axis]
        wanted = [[i * wide, i * wide + 0.85 * wide, *height] for i in index]
        np.testing.assert_allclose(drawn[2 * row + 1][1], wanted)
    assert names(neurons.get_yticklabels()) == [
        "embedding: 6 of 6",
        "hidden layer 1: 2 of 4",
        "hidden layer 2: 3 of 8",
    ]
    assert list(neurons.get_yticks()) == [0, 1, 2]
    assert neurons.yaxis_inverted()
    assert neurons.get_xlim() == (0, 1)
    assert list(neurons.get_xticks()) == []
    assert neurons.get_xlabel() == "neurons, in their order in the dense net"


def test_the_size_of_the_image_of_a_job() -> None:
    image = imread(io.BytesIO(_picture.draw(JOB, phases(), KEPT, SIZES)))
    assert image.shape[:2] == (900, 1080)
