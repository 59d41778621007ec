"""What the tracer knows of a tensor: which of its dimensions runs over which axes.

An axis is a set of neurons that are pruned together wherever they occur. A label describes one
activation, a use describes one parameter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

# Axes -----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Axis:
    """A set of neurons, created at the parameter that writes them.

    Two axes are united (`unite`) if neuron i of one and neuron i of the other must be pruned
    together, for example in a residual sum.
    """

    size: int
    name: str = ""  # feed-forward axes are named when the trace is finished
    depth: int | None = None  # for a feed-forward axis: the first recurrent layer that reads it
    returned: bool = False  # whether the model returns these neurons to the caller
    reasons: list[str] = field(default_factory=list)  # why the axis is frozen; empty if it is not
    parent: Axis | None = None  # the axis that this one was united with
    pieces: list[Axis] | None = None  # what it was cut into, such as the gates of a cell
    sizes: set[str] = field(default_factory=set)  # attributes of the model that hold its size
    born: int = field(default_factory=itertools.count().__next__)


def root(axis: Axis) -> Axis:
    """The axis that stands for all axes united with this one."""
    while axis.parent is not None:
        axis = axis.parent
    return axis


def unite(a: Axis, b: Axis) -> Axis:
    """Unite two axes; returns the one that stands for both: one with a name, else the older."""
    a, b = sorted((root(a), root(b)), key=lambda axis: (not axis.name, axis.born))
    if a is not b:
        b.parent = a
        a.returned |= b.returned
        a.reasons += b.reasons
        a.sizes |= b.sizes
        depths = [axis.depth for axis in (a, b) if axis.depth is not None]
        a.depth = min(depths, default=None)
    return a


#: What one dimension runs over, as consecutive blocks (axis, number of positions). The axis is None
#: for positions that are never pruned. With more positions than the axis has neurons, every neuron
#: stands several times in a row, as in a flattened (channels, frequencies).
Parts = tuple[tuple[Axis | None, int], ...]


def unpruned(size: int) -> Parts:
    """A dimension of `size` positions that are never pruned."""
    return ((None, size),)


def bounds_of(parts: Parts) -> list[int]:
    """The positions at which the parts begin, and the size of the dimension."""
    return list(accumulate((size for _, size in resolve(parts)), initial=0))


def width(parts: Parts) -> int:
    """The size of a dimension that consists of these parts."""
    return sum(size for _, size in parts)


def axes_in(parts: Parts) -> list[Axis]:
    """The axes of the parts; for united axes, the one that stands for them."""
    return [root(axis) for axis, _ in resolve(parts) if axis is not None]


def resolve(parts: Parts) -> Parts:
    """The parts, with every axis that was cut replaced by its pieces."""
    found: list[tuple[Axis | None, int]] = []
    for axis, size in parts:
        own = None if axis is None else root(axis).pieces
        if own is None:
            found.append((axis, size))
        else:
            inner = size // sum(piece.size for piece in own)
            found += resolve(tuple((piece, piece.size * inner) for piece in own))
    return tuple(found)


def cut(parts: Parts, bounds: Iterable[int]) -> Parts | None:
    """The parts, with axes cut so that a part begins at each of the positions `bounds`.

    The result is None if an axis cannot be cut: the layers of torch's recurrent modules, whose axes
    have names, take their neurons as a whole.
    """
    found: list[tuple[Axis | None, int]] = []
    start = 0
    for axis, size in resolve(parts):
        inside = sorted({b - start for b in bounds if start < b < start + size})
        start += size
        if not inside:
            found.append((axis, size))
            continue
        sizes = [end - begin for begin, end in pairwise([0, *inside, size])]
        if axis is None:
            found += [(None, n) for n in sizes]
            continue
        whole = root(axis)
        if whole.name or whole.size != size:
            return None
        whole.pieces = [
            Axis(n, depth=whole.depth, returned=whole.returned, reasons=list(whole.reasons))
            for n in sizes
        ]
        return cut(parts, bounds)  # the axis may occur several times
    return tuple(found)


# Labels of activations ------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Dimension `dim` of a tensor runs over `parts`; `dim` is negative, counted from the end."""

    dim: int
    parts: Parts


@dataclass(frozen=True)
class StackedStates:
    """Recurrent states of all layers and directions, stacked along the first dimension.

    This is the h_n of torch's modules, of shape (D * L, B, H). The last dimension of slice i runs
    over `parts[i]`.
    """

    parts: tuple[Parts, ...]


Label = Features | StackedStates


def axes_of(label: Label) -> list[Axis]:
    """The axes of a label; for united axes, the one that stands for them."""
    if isinstance(label, Features):
        return axes_in(label.parts)
    return [axis for parts in label.parts for axis in axes_in(parts)]


# Uses of parameters ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """How the model uses a parameter: what its dimensions run over, and which it reads.

    `form` is the pattern of the layout, with a slot for each dimension in storage order:
    "{0} <- {1}" for a weight (out, in), "{0} -> {1}" for a weight (in, out), or "{0}" for a
    parameter that reads no neurons, such as a bias.
    """

    form: str
    dimensions: tuple[Parts, ...]
    blocks: int = 1  # how often the first dimension repeats its parts: 4 for the gates of an LSTM
    lookup: bool = False  # an embedding table: rows are looked up, not multiplied

    @property
    def read(self) -> Parts:
        """The neurons that the parameter's input dimension runs over.

        Their gates are multiplied into the parameter. () if it reads no neurons, as a bias or an
        embedding table.
        """
        if "<-" in self.form:
            return self.dimensions[1]
        return self.dimensions[0] if "->" in self.form and not self.lookup else ()
