"""The axes of a layout as a text table."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, int | None, Sequence[str], Sequence[str]]  # axis, size, writers, readers


def axes_table(axes: Sequence[Row]) -> str:
    """One line per axis: its size (`?` if unknown), and the parameters that write and read it."""
    rows = [("axis", "size", "written by", "read by")]
    for axis, size, writers, readers in axes:
        known = "?" if size is None else str(size)
        rows.append((axis, known, ", ".join(writers) or "input", ", ".join(readers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
