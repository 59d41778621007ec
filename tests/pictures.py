"""What a person sees in a figure of matplotlib: texts, bars, legends, the image as a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DOTS = 120  # per inch, in the files

Bars = list[tuple[float, float]]


def words(texts: Sequence[Any]) -> list[str]:
    return [text.get_text() for text in texts]


def legend(holder: Axes | Figure) -> dict[str, str]:
    """The colour that the legend gives to each name."""
    found = holder.get_legend() if isinstance(holder, Axes) else holder.legends[0]
    names = words(found.get_texts())
    assert len(names) == len(set(names)), "a name stands twice in the legend"
    colours = [
        to_hex(h.get_facecolor() if hasattr(h, "get_facecolor") else h.get_color())
        for h in found.legend_handles
    ]
    assert len(set(colours)) == len(colours), "two names have the same colour"
    return dict(zip(names, colours, strict=True))


def bars(axes: Axes, colour: str) -> Bars:
    """The bars of a colour from top to bottom: where each starts and ends on the x axis."""
    boxes = [p.get_bbox() for p in axes.patches if to_hex(p.get_facecolor()) == colour]
    down = -1 if axes.yaxis_inverted() else 1
    boxes.sort(key=lambda box: -down * (box.y0 + box.y1))
    return [tuple(np.round([box.x0, box.x1], 6).tolist()) for box in boxes]


def boxes(axes: Axes, colour: str) -> list[Bbox]:
    """The bars of a colour on the screen."""
    return [p.get_window_extent() for p in axes.patches if to_hex(p.get_facecolor()) == colour]


def rows(axes: Axes) -> list[str]:
    """The names at the left, from top to bottom."""
    axes.figure.draw_without_rendering()
    return words(sorted(_names(axes), key=lambda label: -middle(label)[1]))


def _names(axes: Axes) -> list[Text]:
    """The labels at the left that are drawn: visible, and within the diagram."""
    low, high = sorted(axes.get_ylim())
    return [
        label
        for label in axes.get_yticklabels()
        if label.get_visible() and low <= label.get_position()[1] <= high
    ]


def notes(axes: Axes) -> list[str]:
    """The figures written into the diagram, from top to bottom."""
    return words(sorted(axes.texts, key=lambda text: -middle(text)[1]))


def middle(text: Text) -> tuple[float, float]:
    """The middle of a text on the screen."""
    box = text.get_window_extent()
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def beside(axes: Axes, notes: Sequence[Text], ends: Sequence[float]) -> None:
    """Each note stands right of where its bar ends, level with the name of its row."""
    levels = [axes.transData.transform((0, row))[1] for row in axes.get_yticks()]
    for note, end, level in zip(notes, ends, levels, strict=True):
        x = axes.transData.transform((end, 0))[0]
        assert x < note.get_window_extent().x0 < x + 20
        assert abs(middle(note)[1] - level) < 3


def readable(figure: Figure) -> None:
    """Every text lies inside the figure, and none on another one."""
    figure.draw_without_rendering()
    extents = {t: t.get_window_extent() for g in figure.legends for t in g.get_texts()}
    for axes in figure.axes:
        titles = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        of_legend = axes.get_legend().get_texts() if axes.get_legend() else []
        for text in (*titles, *axes.texts, *_names(axes), *of_legend):
            if text.get_text():
                extents[text] = text.get_window_extent()
    for text, box in extents.items():
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        inside &= figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert inside, f"{text.get_text()!r} is cut off"
    for (one, a), (other, b) in combinations(extents.items(), 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, f"{one.get_text()!r} lies on {other.get_text()!r}"
    for one, other in combinations(figure.axes, 2):
        a, b = one.get_window_extent(), other.get_window_extent()
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0


def image_size(content: bytes) -> tuple[float, float]:
    """Width and height in inches of a PNG that is not empty."""
    image = imread(io.BytesIO(content))
    assert image.min() < image.max()
    height, width = image.shape[:2]
    return width / DOTS, height / DOTS
