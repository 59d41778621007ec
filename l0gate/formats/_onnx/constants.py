"""The values in an ONNX graph that do not depend on its inputs: weights, indices, zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.package import needs_onnx

__all__ = ["Constants", "attributes"]

_WHOLE = 1 << 28  # elements of one array


class Constants:
    """Arrays by name: initializers, constant nodes, and simple operators on these.

    `zero` has the names of values that are zero whatever their shape, such as an initial state
    that is made from the batch of the input.
    """

    def __init__(self, graph: Any, given: Mapping[str, np.ndarray]) -> None:
        self.arrays: dict[str, np.ndarray] = dict(given)
        self.zero: set[str] = set()
        self.shapes: set[str] = set()  # values computed from shapes of the input
        for tensor in graph.initializer:
            self.arrays[tensor.name] = tensor_array(tensor)

    def take(self, node: Any) -> bool:
        """Whether the node's outputs follow from constants; if so, they are noted."""
        kind = node.op_type
        if kind == "Constant":
            self.arrays[node.output[0]] = _constant(node)
            return True
        inputs = [name for name in node.input if name]
        if kind == "Shape":
            self.shapes.add(node.output[0])
            return True
        if kind == "ConstantOfShape":
            value = attributes(node).get("value")
            if value is None or not np.any(tensor_array(value)):
                self.zero.add(node.output[0])
            return node.output[0] in self.zero
        if inputs and inputs[0] in self.zero and kind in _KEEP_ZERO:
            self.zero |= set(node.output)
            return True
        known = all(name in self.arrays or name in self.shapes for name in inputs)
        if known and any(name in self.shapes for name in inputs):
            if kind == "Expand" and not np.any(self.arrays.get(inputs[0], np.ones(1))):
                self.zero.add(node.output[0])
                return True
            if kind in _OF_SHAPES:
                self.shapes |= set(node.output)
                return True
            return False
        if inputs and known and kind in _FOLDED:
            found = _FOLDED[kind]([self.arrays[name] for name in inputs], attributes(node))
            if found is not None:
                self.arrays[node.output[0]] = found
                return True
        return False

    def is_zero(self, name: str) -> bool:
        """Whether a value is zero everywhere; a missing input ("") is."""
        if name in ("", *self.zero):
            return True
        return name in self.arrays and not np.any(self.arrays[name])


_KEEP_ZERO = {"Slice", "Identity", "Cast", "Expand", "Reshape", "Squeeze", "Unsqueeze"}
_KEEP_ZERO |= {"Transpose", "Gather", "Concat", "Split", "Tile"}
_OF_SHAPES = _KEEP_ZERO | {"Mul", "Div", "Add", "Equal", "Where", "ConstantOfShape"}


def _transposed(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    order = options.get("perm")
    found: np.ndarray = np.transpose(values[0], None if order is None else list(order))
    return found


def _expanded(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    shape = np.broadcast_shapes(values[0].shape, tuple(int(n) for n in values[1]))
    return np.broadcast_to(values[0], shape) if math.prod(shape) <= _WHOLE else None


def _unsqueezed(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    axes = options.get("axes") if len(values) < 2 else values[1].tolist()
    return None if axes is None else np.expand_dims(values[0], tuple(axes))


def _squeezed(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    axes = options.get("axes") if len(values) < 2 else values[1].tolist()
    return np.squeeze(values[0], None if axes is None else tuple(axes))


def _concatenated(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    return np.concatenate(values, axis=options.get("axis", 0))


def _sliced(values: list[np.ndarray], options: Mapping[str, Any]) -> np.ndarray | None:
    if len(values) < 3:
        return None
    array, starts, ends, *rest = values
    axes = rest[0].tolist() if rest else range(len(starts))
    steps = rest[1].tolist() if len(rest) > 1 else [1] * len(starts)
    index: list[Any] = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        index[axis] = slice(start, end, step)
    part: np.ndarray = array[tuple(index)]
    return part


_FOLDED: dict[str, Any] = {
    "Transpose": _transposed,
    "Expand": _expanded,
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
    "Concat": _concatenated,
    "Slice": _sliced,
    "Identity": lambda values, options: values[0],
    "Cast": lambda values, options: values[0],
}


def tensor_array(tensor: Any) -> np.ndarray:
    """A tensor of the file as an array. What lies outside the file, or is missing, is refused."""
    onnx = needs_onnx()
    name = tensor.name[:60]
    check(
        tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data,
        f"keeps the array {name!r} in another file, which is not read",
    )
    size = math.prod(tensor.dims)
    check(
        0 <= size <= _WHOLE and all(n >= 0 for n in tensor.dims),
        f"has the array {name!r} of shape {str(list(tensor.dims))[:60]}, which is too large",
    )
    stored = len(tensor.raw_data) or 8 * max(
        len(tensor.float_data),
        len(tensor.int64_data),
        len(tensor.int32_data),
        len(tensor.double_data),
        len(tensor.uint64_data),
    )
    check(size <= stored, f"has the array {name!r} of shape {list(tensor.dims)}, but not its data")
    try:
        array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    except Exception as error:
        raise L0GateError(f"has an array {name!r} that cannot be read: {error}") from None
    return array


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node by name; text as str."""
    onnx = needs_onnx()
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [part.decode("utf-8", "replace") for part in value]
        found[attribute.name] = value
    return found


def _constant(node: Any) -> np.ndarray:
    options = attributes(node)
    if "value" in options:
        return tensor_array(options["value"])
    for key in ("value_float", "value_int", "value_floats", "value_ints"):
        if key in options:
            return np.array(options[key])
    raise L0GateError(f"has a constant {node.output[0][:60]!r} of a kind that l0gate does not read")
