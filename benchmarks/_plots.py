"""Plots of results: rows of panels, with plain numbers on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def figure(columns: int, width: float = 5.0) -> tuple[Any, Any]:
    """A matplotlib figure with `columns` axes in a row; returns the figure and the axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(
        1, columns, figsize=(width * columns, 4.2), squeeze=False, layout="constrained"
    )
    for one in axes[0]:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return made, axes[0]


def log_axes(axis: Any, x: Sequence[float] = (), y: Sequence[float] = ()) -> None:
    """Make x, y or both logarithmic, if ticks are given; shows those in range as plain numbers."""
    for name, ticks in (("x", x), ("y", y)):
        if ticks:
            getattr(axis, f"set_{name}scale")("log")
            low, high = getattr(axis, f"get_{name}lim")()
            seen = [tick for tick in ticks if low <= tick <= high]
            getattr(axis, f"set_{name}ticks")(seen, [f"{tick:,g}" for tick in seen])
            getattr(axis, f"{name}axis").minorticks_off()
            getattr(axis, f"set_{name}lim")(low, high)


def save(made: Any, path: Path) -> None:
    from matplotlib import pyplot

    made.savefig(path, dpi=110)
    pyplot.close(made)
