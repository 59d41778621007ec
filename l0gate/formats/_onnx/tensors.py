"""ONNX files and the arrays in them, read without trust.

No other file is ever opened: arrays that a file keeps elsewhere are refused. The size that a shape
declares is compared with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.package import needs_onnx

__all__ = ["array_of", "attributes_of", "exact_float32", "parsed"]


def parsed(content: bytes) -> Any:
    """The model that the bytes hold."""
    onnx = needs_onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        found = bool(model.graph.node)
    except Exception as error:  # protobuf's implementations raise errors of their own
        raise L0GateError(f"is no ONNX file, or is damaged: {error}") from None
    check(found, "is no ONNX file, or holds no nodes")
    check(_is_text(model), "is damaged: a name in it is no text")
    check(not model.graph.sparse_initializer, "holds sparse arrays, which l0gate does not read")
    return model


def _is_text(model: Any) -> bool:
    """Whether all names are valid UTF-8; protobuf gives the others as bytes."""
    graph = model.graph
    texts = [model.producer_name, *(opset.domain for opset in model.opset_import)]
    texts += [t for entry in model.metadata_props for t in (entry.key, entry.value)]
    texts += [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        texts += [node.op_type, node.name, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    return all(isinstance(text, str) for text in texts)


def array_of(tensor: Any) -> np.ndarray:
    """A tensor of a file as an array."""
    onnx = needs_onnx()
    what = f"the array {tensor.name[:60]!r}"
    check(
        tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data,
        f"keeps {what} in another file, which is never opened; save the model with its weights in"
        " one file",
    )
    check(not tensor.HasField("segment"), f"holds {what} in pieces, which l0gate does not read")
    types = onnx.TensorProto
    fields = {
        types.FLOAT: ("float_data", 4),
        types.DOUBLE: ("double_data", 8),
        types.FLOAT16: ("int32_data", 2),
        types.INT32: ("int32_data", 4),
        types.INT64: ("int64_data", 8),
        types.BOOL: ("int32_data", 1),
    }
    check(
        tensor.data_type in fields,
        f"holds {what} of type {tensor.data_type}; l0gate reads float16, float32, float64, int32,"
        " int64 and bool",
    )
    check(
        len(tensor.dims) <= 8 and all(size >= 0 for size in tensor.dims),
        f"holds {what} of shape {list(tensor.dims)[:9]}",
    )
    field, width = fields[tensor.data_type]
    size = math.prod(tensor.dims)
    raw = tensor.HasField("raw_data")
    found = len(tensor.raw_data) if raw else len(getattr(tensor, field))
    numbers = found / (width if raw else 1)
    check(
        numbers == size,
        f"holds {what} of shape {tuple(tensor.dims)}, and data for {numbers:g} numbers",
    )
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise L0GateError(f"holds {what}, which is damaged: {error}") from None


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node: numbers, text, lists of them, and arrays."""
    onnx = needs_onnx()
    types = onnx.AttributeProto
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == types.FLOAT:
            value: Any = attribute.f
        elif kind == types.INT:
            value = attribute.i
        elif kind == types.STRING:
            value = attribute.s.decode(errors="replace")
        elif kind == types.TENSOR:
            value = array_of(attribute.t)
        elif kind == types.FLOATS:
            value = list(attribute.floats)
        elif kind == types.INTS:
            value = list(attribute.ints)
        elif kind == types.STRINGS:
            value = [text.decode(errors="replace") for text in attribute.strings]
        else:
            value = None  # graphs and types, of operators that l0gate does not read
        expected = _KINDS.get(attribute.name)
        check(
            expected is None or kind == getattr(types, expected),
            f"has {attribute.name!r} of the wrong type in {node.op_type[:40]} {node.name[:60]!r}",
        )
        found[attribute.name] = value
    return found


_KINDS = {
    **dict.fromkeys(("axis", "hidden_size", "input_forget", "layout"), "INT"),
    **dict.fromkeys(("linear_before_reset", "start", "end", "to", "transA", "transB"), "INT"),
    **dict.fromkeys(("axes", "ends", "perm", "split", "starts"), "INTS"),
    **dict.fromkeys(("alpha", "beta", "clip", "max", "min"), "FLOAT"),
    **dict.fromkeys(("activation_alpha", "activation_beta"), "FLOATS"),
    **dict.fromkeys(("approximate", "direction"), "STRING"),
    "activations": "STRINGS",
}


def exact_float32(array: np.ndarray, what: str) -> np.ndarray:
    """The array as float32, if that changes no number."""
    check(array.dtype.kind == "f", f"holds {what} of type {array.dtype}; expected float32")
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(np.float32)
        same = np.array_equal(found.astype(array.dtype), array, equal_nan=True)
    check(same, f"holds {what} of type {array.dtype}, whose numbers float32 cannot hold exactly")
    return found
