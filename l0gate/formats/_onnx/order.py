"""How axes and gate blocks stand in ONNX.

An axis is a tuple of labels whose sizes multiply: ("0",) is axis 0 of the net's input, () an axis
of size 1, ("0", "1") the rows of a matrix that time and batch were flattened to. The labels
`FEATURES` and `DIRECTIONS` stand for the features of a step and the directions of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

__all__ = [
    "DIRECTIONS",
    "FEATURES",
    "Axes",
    "Axis",
    "Size",
    "from_onnx",
    "reshaped",
    "size_of",
    "squeezed",
    "to_onnx",
    "transposed",
    "unsqueezed",
]

Axis: TypeAlias = "tuple[str, ...]"
Axes: TypeAlias = "tuple[Axis, ...]"
Size: TypeAlias = "tuple[int, Axis]"  # a number times the unknown sizes of some labels
FEATURES, DIRECTIONS = "features", "directions"

# Where ONNX's gate blocks stand in torch's order: i, f, g, o and r, z, n.
_BLOCKS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


def to_onnx(cell: str, array: np.ndarray) -> np.ndarray:
    """Rows in ONNX's order of blocks, i, o, f, c or z, r, h, from those in torch's.

    >>> to_onnx("lstm", np.arange(4)).tolist(), to_onnx("gru", np.arange(3)).tolist()
    ([0, 3, 1, 2], [1, 0, 2])
    """
    blocks = np.split(array, len(_BLOCKS[cell]))
    return np.concatenate([blocks[k] for k in _BLOCKS[cell]])


def from_onnx(cell: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_onnx`."""
    order = _BLOCKS[cell]
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[order.index(k)] for k in range(len(order))])


def transposed(axes: Axes, perm: Sequence[int] | None) -> Axes | None:
    """The axes after a Transpose; None if `perm` is no permutation."""
    order = list(range(len(axes)))[::-1] if perm is None else list(perm)
    return tuple(axes[k] for k in order) if sorted(order) == list(range(len(axes))) else None


def squeezed(axes: Axes, where: Sequence[int] | None) -> Axes | None:
    """The axes after a Squeeze, of all axes of size 1 without `where`; None if one is larger."""
    if where is None:
        return tuple(axis for axis in axes if axis)
    chosen = {k + len(axes) if k < 0 else k for k in where}
    if not all(0 <= k < len(axes) and not axes[k] for k in chosen):
        return None
    return tuple(axis for k, axis in enumerate(axes) if k not in chosen)


def unsqueezed(axes: Axes, where: Sequence[int]) -> Axes | None:
    """The axes after an Unsqueeze."""
    rank = len(axes) + len(where)
    chosen = {k + rank if k < 0 else k for k in where}
    if len(chosen) != len(where) or not all(0 <= k < rank for k in chosen) or rank > 8:
        return None
    rest = iter(axes)
    return tuple(() if k in chosen else next(rest) for k in range(rank))


def size_of(axis: Axis, sizes: Mapping[str, int | None]) -> Size:
    """The size of an axis: the product of the known sizes, and the labels of the others.

    >>> size_of(("0", "features"), {"0": None, "features": 8})
    (8, ('0',))
    """
    known = [sizes[label] for label in axis]
    number = math.prod(size for size in known if size is not None)
    return number, tuple(label for label in axis if sizes[label] is None)


def reshaped(axes: Axes, sizes: Mapping[str, int | None], wanted: Sequence[Size]) -> Axes | None:
    """The axes after a Reshape to the sizes `wanted`, which may be 0 (as before) and -1 (the rest).

    None if the new axes cannot be told from the labels.

    >>> axes = (("0",), ("1",), ("directions",), ("features",))
    >>> sizes = {"0": None, "1": None, "directions": 2, "features": 8}
    >>> reshaped(axes, sizes, [(0, ()), (0, ()), (-1, ())])
    (('0',), ('1',), ('directions', 'features'))
    """
    flat = [label for axis in axes for label in axis]
    targets: list[Size] = []
    for place, size in enumerate(wanted):
        if size != (0, ()):
            targets.append(size)
        elif place < len(axes):
            targets.append(size_of(axes[place], sizes))
        else:
            return None
    free = [place for place, size in enumerate(targets) if size == (-1, ())]
    if len(free) > 1:
        return None
    first = free[0] if free else len(targets)
    left = _taken(flat, sizes, targets[:first])
    if left is None:
        return None
    rest = flat[sum(map(len, left)) :]
    if not free:
        return None if rest else tuple(left)
    right = _taken(rest[::-1], sizes, targets[:first:-1])
    if right is None:
        return None
    middle = tuple(rest[: len(rest) - sum(map(len, right))])
    return (*left, middle, *(axis[::-1] for axis in right[::-1]))


def _taken(
    flat: Sequence[str], sizes: Mapping[str, int | None], targets: Sequence[Size]
) -> list[Axis] | None:
    """For each target the labels from the front of `flat` whose sizes give it."""
    found: list[Axis] = []
    start = 0
    for place, target in enumerate(targets):
        rest = flat[start:]
        left = sum(size != (1, ()) for size in targets[place:])
        for count in range(len(rest) + 1):
            run = tuple(rest[:count])
            number, labels = size_of(run, sizes)
            if number == target[0] and sorted(labels) == sorted(target[1]):
                break
        else:
            if len(rest) != left or not rest or sizes[rest[0]] is not None or target[1]:
                return None
            run = (rest[0],)  # a number for a size that the file leaves open
        found.append(run)
        start += len(run)
    return found
