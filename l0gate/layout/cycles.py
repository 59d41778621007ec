"""Which axes are recurrent: one parameter reads and writes them, or a longer cycle of them does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Names = Callable[[str], tuple[str, ...]]  # axis -> names of the parameters that read, or write, it


def axes_on_cycles(axes: Sequence[str], readers: Names, writers: Names) -> set[str]:
    """The axes that some parameter both reads and writes, and those on longer cycles."""
    reached = {a: {b for b in axes if set(readers(a)) & set(writers(b))} for a in axes}
    cyclic = {axis for axis, found in reached.items() if axis in found}
    # A longer cycle must not pass through these: that is a residual sum, not recurrence in time.
    ways = {axis: found - cyclic for axis, found in reached.items() if axis not in cyclic}
    for middle in ways:
        for found in ways.values():
            if middle in found:
                found |= ways[middle]
    return cyclic | {axis for axis, found in ways.items() if axis in found}
