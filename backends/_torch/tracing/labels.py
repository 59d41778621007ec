"""What the tracer knows of a tensor: which of its dimensions runs over which axes of neurons.

An axis is a set of neurons that are pruned together wherever they occur. A label describes one
activation, a use describes one parameter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

# Axes -----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Axis:
    """A set of neurons, created at the parameter that writes them.

    Two axes become one (`unite`) where the model uses their neurons as the same ones, for example
    in a residual sum.
    """

    size: int
    name: str = ""  # of recurrent neurons; feed-forward neurons are named after their reader
    depth: int | None = None  # of the first recurrent layer that reads feed-forward neurons
    returned: bool = False  # to the caller, in an output of the model
    reasons: list[str] = field(default_factory=list)  # why the axis is frozen; empty if it is not
    parent: Axis | None = None  # the axis that this one was united with
    born: int = field(default_factory=itertools.count().__next__)


def root(axis: Axis) -> Axis:
    """The axis that represents all axes united with this one."""
    while axis.parent is not None:
        axis = axis.parent
    return axis


def unite(a: Axis, b: Axis) -> Axis:
    """Make two axes one, and return it: a named axis before an unnamed, an older before a newer."""
    a, b = sorted((root(a), root(b)), key=lambda axis: (not axis.name, axis.born))
    if a is not b:
        b.parent = a
        a.returned |= b.returned
        a.reasons += b.reasons
        depths = [axis.depth for axis in (a, b) if axis.depth is not None]
        a.depth = min(depths, default=None)
    return a


#: A dimension as consecutive blocks: an axis, or None for positions that are never pruned, with the
#: number of positions.
Parts = tuple[tuple[Axis | None, int], ...]


def unpruned(size: int) -> Parts:
    """A dimension without axes."""
    return ((None, size),)


def width(parts: Parts) -> int:
    """The size of a dimension that consists of these parts."""
    return sum(size for _, size in parts)


def axes_in(parts: Parts) -> list[Axis]:
    """The axes of the parts, each replaced by the axis that represents it."""
    return [root(axis) for axis, _ in parts if axis is not None]


# Labels of activations ------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Dimension `dim` of a tensor runs over `parts`; `dim` is negative, counted from the end."""

    dim: int
    parts: Parts


@dataclass(frozen=True)
class StackedStates:
    """Recurrent states, stacked: the last dimension of slice i runs over `parts[i]`.

    The slices lie along the first dimension, one per layer and direction.
    """

    parts: tuple[Parts, ...]


Label = Features | StackedStates


def axes_of(label: Label) -> list[Axis]:
    """The axes of a label, each replaced by the axis that represents it."""
    if isinstance(label, Features):
        return axes_in(label.parts)
    return [axis for parts in label.parts for axis in axes_in(parts)]


# Uses of parameters ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """How the model uses a parameter: the axes of its dimensions, which it reads or writes.

    `form` is the pattern of the layout with a slot per dimension, in storage order:
    "{0} <- {1}", "{0} -> {1}", or "{0}" for a parameter that is only sliced, such as a bias.
    """

    form: str
    dimensions: tuple[Parts, ...]
    blocks: int = 1  # of the first dimension, such as 4 for the gates of an LSTM
    lookup: bool = False  # an embedding table: rows are looked up, not multiplied

    @property
    def read(self) -> Parts:
        """The dimension on the in-side of the arrow, which gates are folded into."""
        if "<-" in self.form:
            return self.dimensions[1]
        return self.dimensions[0] if "->" in self.form and not self.lookup else ()
