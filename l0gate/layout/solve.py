"""The sizes of all axes, from the shapes of the arrays: one linear equation per dimension.

The length of a dimension is the sum over its blocks, so that `(4 h + 2)` of length 22 gives h = 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from l0gate._backend import Array
from l0gate._errors import check
from l0gate.layout.notation import Dimension, Pattern

Slice = tuple[str, Pattern, tuple[int, ...], Array]  # parameter name, pattern, shape, array


class _Equation:
    """One dimension of one parameter: the sum of its blocks is its length."""

    def __init__(self, name: str, pattern: Pattern, shape: tuple[int, ...], place: int) -> None:
        self.name, self.pattern, self.shape, self.place = name, pattern, shape, place

    @property
    def dimension(self) -> Dimension:
        return self.pattern.dimensions[self.place]

    @property
    def length(self) -> int:
        return self.shape[self.place]

    def unknowns(self, sizes: Mapping[str, int]) -> int:
        """How many axes of the dimension have no size in `sizes` yet."""
        return sum(axis not in sizes for axis in self.dimension.axes)

    def rest(self, sizes: Mapping[str, int]) -> tuple[int, int, str | None]:
        """What the axis of unknown size must fill, for a dimension with at most one such axis.

        Returns the length of the dimension minus its blocks of known size, how often the unknown
        axis is repeated, and the axis's name (None if all sizes are known).
        """
        rest, times, unknown = self.length, 0, None
        for block in self.dimension.blocks:
            each = block.outer * block.inner
            if block.axis is None:
                rest -= each
            elif block.axis in sizes:
                rest -= each * sizes[block.axis]
            else:
                unknown, times = block.axis, times + each
        return rest, times, unknown

    def is_whole(self, sizes: Mapping[str, int]) -> bool:
        """Whether the unknown axis would get a whole size above 0."""
        rest, times, _ = self.rest(sizes)
        return rest > 0 and rest % times == 0

    def solve(self, sizes: dict[str, int]) -> None:
        """Add the size of the unknown axis to `sizes`, or check the known ones."""
        rest, times, unknown = self.rest(sizes)
        known = ", ".join(f"{a} = {sizes[a]}" for a in self.dimension.axes if a in sizes)
        given = f" with {known}" if known else ""
        where = (
            f"parameter {self.name!r} has shape {self.shape}, which does not fit its pattern"
            f" {str(self.pattern)!r}: dimension {self.place} is {self.length}"
        )
        if unknown is None:
            check(rest == 0, f"{where}, but {self.dimension} is {self.length - rest}{given}")
            return
        check(
            rest > 0 and rest % times == 0,
            f"{where}, which leaves no whole size above 0 for {unknown} in {self.dimension}{given}",
        )
        sizes[unknown] = rest // times


def solve(slices: Sequence[Slice], axes: Sequence[str], given: Mapping[str, int]) -> dict[str, int]:
    """The size of every axis. Raises if a shape does not fit, or if a size remains unknown.

    `given` are sizes that are known beforehand.
    """
    sizes: dict[str, int] = {axis: int(size) for axis, size in given.items()}
    pending: list[_Equation] = []
    for name, pattern, shape, _ in slices:
        check(
            len(shape) == len(pattern.dimensions),
            f"parameter {name!r} has shape {shape}; its pattern {str(pattern)!r} has"
            f" {len(pattern.dimensions)} dimensions",
        )
        pending += [
            _Equation(name, pattern, shape, i) for i, d in enumerate(pattern.dimensions) if d.blocks
        ]
    # Solve the equations that have at most one unknown, until none is left.
    while ready := [equation for equation in pending if equation.unknowns(sizes) <= 1]:
        # Equations without a whole solution come last, so that the error names the faulty shape.
        ready.sort(key=lambda e: e.unknowns(sizes) == 1 and not e.is_whole(sizes))
        pending = [equation for equation in pending if equation.unknowns(sizes) > 1]
        for equation in ready:
            equation.solve(sizes)
    open_axes = [axis for axis in axes if axis not in sizes]
    check(
        not open_axes,
        f"the arrays do not fix the size of {', '.join(map(repr, open_axes))};"
        " give it with `sizes=`",
    )
    return {axis: sizes[axis] for axis in axes}
