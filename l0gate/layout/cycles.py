"""Which axes are recurrent: the parameters that read one of them lead back to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Names = Callable[[str], tuple[str, ...]]  # of the parameters that read, or write, an axis


def axes_on_cycles(axes: Sequence[str], readers: Names, writers: Names) -> set[str]:
    """The axes from which parameters lead back to the same axis, directly or by way of others."""
    reached = {a: {b for b in axes if set(readers(a)) & set(writers(b))} for a in axes}
    cyclic = {axis for axis, found in reached.items() if axis in found}
    # Ways through an axis that is recurrent by itself are residual sums, not time.
    ways = {axis: found - cyclic for axis, found in reached.items() if axis not in cyclic}
    for middle in ways:
        for found in ways.values():
            if middle in found:
                found |= ways[middle]
    return cyclic | {axis for axis, found in ways.items() if axis in found}
