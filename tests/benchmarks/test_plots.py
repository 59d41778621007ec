"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_axes_show_plain_numbers_that_are_in_sight(load: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plots = load("_plots")
    made, (axis, other) = plots.figure(2)
    axis.plot([8, 1000], [0.5, 30])
    plots.log_axes(axis, x=(1, 10, 100, 1000, 10_000), y=(1, 10))
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "100", "1,000"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["1", "10"]
    assert (axis.get_xscale(), axis.get_yscale(), other.get_xscale()) == ("log", "log", "linear")
    plots.save(made, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
