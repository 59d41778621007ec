"""What moves, chooses or joins axes and features: Transpose, Reshape, Gather, Slice, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from l0gate._errors import check
from l0gate.formats._onnx.order import (
    FEATURES,
    Axes,
    reshaped,
    squeezed,
    transposed,
    unsqueezed,
)
from l0gate.formats._onnx.recurrent import paired
from l0gate.formats._onnx.tensors import exact_float32
from l0gate.formats._onnx.values import Dims, Moved, Node, Stream, Unknown, Value, Zeros
from l0gate.formats.layers import Embedding, Selection

__all__ = ["MOVERS", "carried", "is_zero", "module_name"]


def is_zero(value: Value | None) -> bool:
    return isinstance(value, Zeros) or (isinstance(value, np.ndarray) and not value.any())


def carried(node: Node, values: Sequence[Value]) -> Value:
    """Zeros or states, after they were moved or joined."""
    joined = values if node.operator == "Concat" else values[:1]
    if all(is_zero(value) for value in joined):
        return Zeros()
    found: list[Moved] = []
    for value in joined:
        if isinstance(value, Moved):
            found.append(value)
        elif isinstance(value, Stream) and (value.state or not value.layers):
            found.append(Moved(value.source, bool(value.layers)))
        elif not is_zero(value):
            return Unknown(f"joins states with other values in {node.described}")
    computed = any(value.computed for value in found)
    return replace(found[0], computed=computed)


def _stream(node: Node, place: int = 0) -> Stream | None:
    value = node.input(place)
    return value if isinstance(value, Stream) else None


def _unfollowed(node: Node, value: Value | None) -> Value:
    """What is left of a value that was moved in a way that layers cannot express."""
    if isinstance(value, Stream) and (value.state or not value.layers):
        return Moved(value.source, bool(value.layers))
    return Unknown(f"moves axes in {node.described} in a way that l0gate does not follow")


def _moved(node: Node, axes: Axes | None) -> Value:
    value = _stream(node)
    if value is None or axes is None:
        return _unfollowed(node, value)
    return value.moved(axes)


def _transpose(node: Node) -> Value:
    value = _stream(node)
    return _moved(
        node, None if value is None else transposed(value.axes, node.attributes.get("perm"))
    )


def _squeeze(node: Node) -> Value:
    value = _stream(node)
    return _moved(node, None if value is None else squeezed(value.axes, node.numbers(1, "axes")))


def _unsqueeze(node: Node) -> Value:
    value = _stream(node)
    return _moved(
        node, None if value is None else unsqueezed(value.axes, node.numbers(1, "axes") or [])
    )


def _reshape(node: Node) -> Value:
    value, wanted = _stream(node), node.input(1)
    if isinstance(wanted, np.ndarray) and wanted.dtype.kind in "iu" and wanted.size <= 8:
        wanted = Dims(tuple((int(n), ()) for n in wanted.ravel()))
    if value is None or not isinstance(wanted, Dims):
        return _unfollowed(node, value)
    return _moved(node, reshaped(value.axes, value.all_sizes, wanted.entries))


def _last_step(node: Node, value: Stream, axis: int) -> Stream | None:
    """The last time step, with an axis of size 1, if `axis` is that of time."""
    time = node.notes.get(f"time of {value.source}")
    if time is None or value.axes[axis] != (str(time),) or not value.layers:
        return None
    axes = tuple(() if k == axis else a for k, a in enumerate(value.axes))
    return replace(value.moved(axes), last=True)


def _gather(node: Node) -> Value:
    index, axis = node.input(1), node.attributes.get("axis", 0)
    table = node.input(0)
    if isinstance(table, np.ndarray) and isinstance(index, Stream):
        return _embedding(node, table, index, axis)
    value = _stream(node)
    if value is None or not isinstance(index, np.ndarray) or index.dtype.kind not in "iu":
        return _unfollowed(node, value)
    axis += len(value.axes) if axis < 0 else 0
    check(0 <= axis < len(value.axes), f"has axis {axis} in {node.described}")
    if value.axes[axis] == (FEATURES,) and index.ndim == 1:
        return _selected(node, value, index)
    last = _last_step(node, value, axis) if index.tolist() in (-1, [-1]) else None
    if last is not None:
        return last if index.ndim else last.moved(last.axes[:axis] + last.axes[axis + 1 :])
    return _unfollowed(node, value)


def _embedding(node: Node, table: np.ndarray, tokens: Stream, axis: int) -> Value:
    if not tokens.tokens or tokens.layers or axis != 0 or table.ndim != 2:
        return Unknown(f"looks something else up in {node.described} than the tokens of its input")
    weight = exact_float32(table, f"the table of {node.described}")
    axes = (*tokens.axes, (FEATURES,))
    return tokens.then(Embedding(module_name(node, 0), weight), weight.shape[1], axes=axes)


def _selected(node: Node, value: Stream, index: np.ndarray) -> Value:
    if value.width is None:
        return Unknown(f"chooses features in {node.described} of an input of unknown size")
    chosen = np.where(index < 0, index + value.width, index).astype(np.int64)
    fits = len(chosen) > 0 and chosen.min() >= 0 and chosen.max() < value.width
    check(fits, f"chooses features in {node.described} that its input does not have")
    if value.layers or len(np.unique(chosen)) != len(chosen):
        return (
            _unfollowed(node, value)
            if value.state
            else Unknown(
                f"chooses features in {node.described}; l0gate reads a choice of the net's inputs,"
                " each at most once"
            )
        )
    return value.then(Selection(chosen, value.width), len(chosen))


def _slice(node: Node) -> Value:
    value = _stream(node)
    starts, ends = node.numbers(1, "starts"), node.numbers(2, "ends")
    axes, steps = node.numbers(3, "axes"), node.numbers(4, "steps")
    if value is None or not starts or not ends or len(starts) != 1 or len(ends) != 1:
        return _unfollowed(node, value)
    axis, step = (axes or [0])[0], (steps or [1])[0]
    axis += len(value.axes) if axis < 0 else 0
    if not 0 <= axis < len(value.axes):
        return _unfollowed(node, value)
    if value.axes[axis] == (FEATURES,) and value.width is not None and step != 0:
        end = None if step < 0 and ends[0] < -(2**31) else ends[0]
        index = np.arange(value.width)[starts[0] : end : step]
        if len(index) == value.width and step == 1:
            return value
        return _selected(node, value, index) if len(index) else _unfollowed(node, value)
    to_the_end = starts[0] == -1 and ends[0] >= 2**31 - 1 and step == 1
    last = _last_step(node, value, axis) if to_the_end else None
    return _unfollowed(node, value) if last is None else last


def _concat(node: Node) -> Value:
    values = [value for value in node.inputs if isinstance(value, Stream)]
    axis = node.attributes.get("axis", 0)
    if len(values) == len(node.inputs) == 2:
        first, second = values
        rank = len(first.axes)
        if first.layers and second.layers and rank and first.axes[axis % rank] == (FEATURES,):
            return paired(node, first, second)
    return carried(node, [value for value in node.inputs if value is not None])


def module_name(node: Node, *places: int) -> str:
    """The name of a layer: its module by the names of its arrays, or of the node."""
    if not (node.verbatim and node.name):
        for place in places:
            name = node.input_names[place]
            stem, dot, end = name.rpartition(".")
            if dot and end in ("weight", "bias") and stem.isprintable():
                return stem[:200]
    return node.scope


MOVERS: Mapping[str, Callable[[Node], Value]] = {
    "Concat": _concat,
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": lambda node: _unfollowed(node, _stream(node)),
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
