"""The picture of a finished job, as a person sees it: curves, budget, neurons, and the file."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex
from pictures import image_size, legend, readable, rows, words

from l0gate.cli._report_picture import draw, picture

JOB = {
    "text": {"name": "book.txt", "unit": "character"},
    "options": {"teacher": "none"},
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
        "gated": SimpleNamespace(losses=losses, size_fractions=shares, step=80),
        "dense": SimpleNamespace(losses=losses[:3], size_fractions=[1.0] * 3, step=3),
        "direct": SimpleNamespace(losses=losses[2:4], size_fractions=[1.0] * 2, step=2),
    }


def test_the_losses_of_a_job() -> None:
    figure = picture(JOB, phases(), KEPT, SIZES)
    readable(figure)
    losses, shares, neurons = figure.axes
    # One below the other, and the two that run over steps have the same scale.
    tops = [axes.get_window_extent().y1 for axes in (losses, shares, neurons)]
    assert tops == sorted(tops, reverse=True)
    assert losses.get_shared_x_axes().joined(losses, shares)
    named = [
        "gated 6 -> 4 -> 8, shrunk to 6 -> 2 -> 3",
        "dense 6 -> 4 -> 8",
        "direct 6 -> 2 -> 3",
    ]
    colours = legend(losses)
    assert list(colours) == named
    curves = {to_hex(line.get_color()): line for line in losses.lines}
    gated, dense, direct = (curves[colours[name]] for name in named)
    # Losses in bits; averages of neighbouring steps where there are many.
    np.testing.assert_array_equal(gated.get_xdata(), np.arange(2, 81, 2))
    np.testing.assert_allclose(gated.get_ydata(), np.arange(40), atol=1e-12)
    np.testing.assert_array_equal(dense.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(dense.get_ydata(), [0, 0, 1])
    np.testing.assert_allclose(direct.get_ydata(), [1, 1])
    assert losses.get_ylabel() == "training loss\n(bits per character)"
    assert losses.get_title() == "book.txt: loss, size, and the neurons that stayed"


def test_the_size_over_a_job() -> None:
    figure = picture(JOB, phases(), KEPT, SIZES)
    shares = figure.axes[1]
    size, budget = shares.lines
    np.testing.assert_array_equal(size.get_xdata(), np.arange(1, 81))
    np.testing.assert_allclose(size.get_ydata(), 1 - np.arange(80) / 100)
    # The gated net has one colour in both diagrams.
    gated = next(c for name, c in legend(figure.axes[0]).items() if name.startswith("gated"))
    assert to_hex(size.get_color()) == gated
    # A level line of another kind is the budget, and says so where it stands.
    assert set(budget.get_ydata()) == {0.405}
    assert budget.get_linestyle() != size.get_linestyle()
    assert words(shares.texts) == ["budget 40%"]
    figure.draw_without_rendering()
    level = shares.transData.transform((0, 0.405))[1]
    assert level <= shares.texts[0].get_window_extent().y0 + 3 < level + 10
    # From nothing to all, with what a size above all would look like.
    assert shares.get_ylim()[0] == 0
    assert 1 < shares.get_ylim()[1] < 1.2
    assert shares.get_ylabel() == "expected size\n(recurrent parameters)"
    assert shares.get_xlabel() == "step"
    free = picture({**JOB, "budget": None}, phases(), KEPT, SIZES).axes[1]
    assert len(free.lines) == 1
    assert words(free.texts) == []
    assert free.get_ylabel() == "expected size\n(parameters)"


def test_the_neurons_that_were_kept_in_a_job() -> None:
    neurons = picture(JOB, phases(), KEPT, SIZES).axes[2]
    assert rows(neurons) == [
        "embedding: 6 of 6",
        "hidden layer 1: 2 of 4",
        "hidden layer 2: 3 of 8",
    ]
    # By row, everything drawn: the full width, and on it in another colour the neurons.
    drawn: dict[int, list[Any]] = {row: [] for row in range(3)}
    for collection in neurons.collections:
        boxes = [path.get_extents() for path in collection.get_paths()]
        (row,) = {round((box.y0 + box.y1) / 2) for box in boxes}
        drawn[row].append((to_hex(collection.get_facecolor()), boxes))
    colours = set()
    for (axis, index), (whole, kept) in zip(KEPT.items(), drawn.values(), strict=True):
        (box,) = whole[1]
        assert (box.x0, box.x1) == (0, 1)
        colours.add((whole[0], kept[0]))
        # A mark per neuron, within the neuron's own part of the width, most of which it fills.
        assert len(kept[1]) == len(index)
        for neuron, mark in zip(index, kept[1], strict=True):
            left, right = mark.x0 * SIZES[axis], mark.x1 * SIZES[axis]
            assert neuron - 1e-9 < left < neuron + 0.2
            assert neuron + 0.8 < right < neuron + 1
    ((background, marks),) = colours
    assert background != marks
    assert neurons.get_xlim() == (0, 1)
    assert list(neurons.get_xticks()) == []
    assert neurons.get_xlabel() == "neurons, in their order in the dense net"


def test_the_image_of_a_job() -> None:
    width, height = image_size(draw(JOB, phases(), KEPT, SIZES))
    assert (width, height) == pytest.approx((9, 7.5), abs=0.1)
