"""Operators on constants, and on sizes that the graph computes from the shapes of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats._onnx.order import Size
from l0gate.formats._onnx.values import Dims, Node, Unknown, Value

__all__ = ["computed_dims", "folded"]

_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
_MOST_SIZES = 64


def folded(node: Node, arrays: Sequence[np.ndarray], largest: int) -> list[Value]:
    """What an operator gives for constants. A result of more than `largest` bytes is refused."""
    operator = node.operator
    if operator in ("Identity", "Dropout"):
        return [arrays[0]]
    if operator not in (*_FOLDED, "Split"):
        return [Unknown(f"computes {node.described} from constants, which l0gate does not follow")]
    try:
        if operator == "Split":
            return _split(node, arrays)
        if operator == "Concat" and sum(array.nbytes for array in arrays) > largest:
            raise L0GateError(f"makes larger arrays than it holds, in {node.described}")
        with np.errstate(all="ignore"):
            found = np.asarray(_FOLDED[operator](node, arrays))
    except L0GateError:
        raise
    except Exception:  # shapes and numbers that do not fit, in many ways
        return [Unknown(f"has {node.described}, whose constants do not fit together")]
    if found.nbytes > largest:
        raise L0GateError(f"makes larger arrays than it holds, in {node.described}")
    return [found]


def _axes(node: Node, place: int) -> tuple[int, ...] | None:
    found = node.numbers(place, "axes")
    return None if found is None else tuple(found)


def _slice(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    starts, ends = node.numbers(1, "starts"), node.numbers(2, "ends")
    assert starts is not None
    assert ends is not None
    axes = node.numbers(3, "axes") or range(len(starts))
    steps = node.numbers(4, "steps") or [1] * len(starts)
    index = [slice(None)] * arrays[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -(2**31) else end, step)
    return arrays[0][tuple(index)]


def _split(node: Node, arrays: Sequence[np.ndarray]) -> list[Value]:
    axis = node.attributes.get("axis", 0)
    sizes = node.numbers(1, "split")
    if sizes is None:
        return list(np.split(arrays[0], node.outputs, axis))
    return list(np.split(arrays[0], np.cumsum(sizes)[:-1], axis))


def _reshape(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    wanted = [int(n) for n in arrays[1].ravel()]
    return arrays[0].reshape([arrays[0].shape[k] if n == 0 else n for k, n in enumerate(wanted)])


def _cast(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0].astype(_TYPES[node.attributes["to"]])


_FOLDED: dict[str, Callable[[Node, Sequence[np.ndarray]], np.ndarray]] = {
    "Transpose": lambda node, a: np.transpose(a[0], node.attributes.get("perm")),
    "Squeeze": lambda node, a: np.squeeze(a[0], _axes(node, 1)),
    "Unsqueeze": lambda node, a: np.expand_dims(a[0], _axes(node, 1) or ()),
    "Concat": lambda node, a: np.concatenate(a, node.attributes["axis"]),
    "Gather": lambda node, a: np.take(a[0], a[1], node.attributes.get("axis", 0)),
    "Shape": lambda node, a: np.array(a[0].shape, np.int64),
    "Add": lambda node, a: _small(a, np.add),
    "Sub": lambda node, a: _small(a, np.subtract),
    "Mul": lambda node, a: _small(a, np.multiply),
    "Slice": _slice,
    "Reshape": _reshape,
    "Cast": _cast,
}


def _small(arrays: Sequence[np.ndarray], function: Callable[..., np.ndarray]) -> np.ndarray:
    """A function of arrays of which one has the shape of the result, so that nothing grows."""
    first, second = arrays
    shape = np.broadcast_shapes(first.shape, second.shape)
    if shape not in (first.shape, second.shape):
        raise ValueError("grows")
    return function(first, second)


def computed_dims(node: Node) -> list[Value]:
    """What an operator gives for sizes of values, or sizes and whole numbers."""
    unknown: list[Value] = [
        Unknown(f"computes a shape by {node.described}, which l0gate does not follow")
    ]
    operands = [_entries(value) for value in node.inputs if value is not None]
    if not operands or operands[0] is None:
        return unknown
    entries, first = operands[0], node.input(0)
    scalar = isinstance(first, Dims) and first.scalar
    if node.operator in ("Identity", "Cast"):
        return [Dims(entries, scalar)]
    if node.operator in ("Squeeze", "Unsqueeze", "Reshape"):
        return [Dims(entries, node.operator == "Squeeze")] if len(entries) == 1 else unknown
    if node.operator == "Gather" and isinstance(index := node.input(1), np.ndarray):
        places = [int(k) for k in index.ravel()[:_MOST_SIZES]]
        if all(-len(entries) <= k < len(entries) for k in places):
            return [Dims(tuple(entries[k] for k in places), index.ndim == 0)]
    if node.operator == "Slice":
        starts, ends = node.numbers(1, "starts"), node.numbers(2, "ends")
        if starts and ends and (node.numbers(4, "steps") or [1]) == [1]:
            return [Dims(entries[starts[0] : ends[0]])]
    if node.operator == "Concat" and all(part is not None for part in operands):
        joined = tuple(size for part in operands for size in part or ())
        return [Dims(joined)] if len(joined) <= _MOST_SIZES else unknown
    other = operands[1] if node.operator == "Mul" and len(operands) == 2 else None
    if other is not None and len(entries) == len(other):
        pairs = zip(entries, other, strict=True)
        return [Dims(tuple((a[0] * b[0], (*a[1], *b[1])) for a, b in pairs), scalar)]
    return unknown


def _entries(value: Value) -> tuple[Size, ...] | None:
    if isinstance(value, Dims):
        return value.entries
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size <= _MOST_SIZES:
        return tuple((int(n), ()) for n in value.ravel())
    return None
