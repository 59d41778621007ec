"""What each operator makes of what it reads; layers from products, sums, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats._onnx.constants import computed_dims, folded
from l0gate.formats._onnx.functions import function_name
from l0gate.formats._onnx.moving import MOVERS, carried, is_zero, module_name
from l0gate.formats._onnx.recurrent import CELLS, recurrent
from l0gate.formats._onnx.tensors import exact_float32
from l0gate.formats._onnx.values import Dims, Moved, Node, Stream, Unknown, Value, Zeros
from l0gate.formats.layers import (
    Activation,
    Linear,
    Other,
    Skip,
)

__all__ = ["evaluated"]

_MOVING = (
    "Cast",
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def evaluated(node: Node, largest: int) -> list[Value]:
    """The values that a node writes. Constants of more than `largest` bytes are not made."""
    values = [value for value in node.inputs if value is not None]
    if node.operator in CELLS:
        try:
            return recurrent(node)
        except L0GateError as error:
            return [Unknown(str(error))] * node.outputs
    if node.operator == "Constant":
        return [_constant(node)]
    if node.operator == "ConstantOfShape":
        return [_filled(node)]
    unknown = next((value for value in values if isinstance(value, Unknown)), None)
    first = node.input(0)
    if node.operator in ("Expand", "Tile") and is_zero(first):
        return [Zeros()]
    if unknown is not None:
        return [unknown]
    if values and all(isinstance(value, np.ndarray) for value in values):
        return folded(node, [v for v in values if isinstance(v, np.ndarray)], largest)
    if node.operator in _MOVING and any(isinstance(v, (Zeros, Moved)) for v in values):
        return [carried(node, values)] * node.outputs
    if node.operator == "Shape":
        return [_shape(node)]
    if any(isinstance(value, Dims) for value in values) and not isinstance(first, Stream):
        return computed_dims(node)
    handler = _HANDLERS.get(node.operator)
    if handler is None:
        return [_unread(node)] * node.outputs
    return [handler(node)] * (node.outputs if node.operator == "Split" else 1)


def _unread(node: Node) -> Value:
    before = next(
        (n for n, v in zip(node.input_names, node.inputs, strict=True) if isinstance(v, Stream)), ""
    )
    way = f"; `output` may name a value before it, such as {before[:60]!r}" if before else ""
    return Unknown(f"has the operator {node.described}, which l0gate does not read{way}")


def _constant(node: Node) -> Value:
    given = node.attributes
    if isinstance(given.get("value"), np.ndarray):
        found: np.ndarray = given["value"]
        return found
    for key, type_ in (("value_float", np.float32), ("value_floats", np.float32)):
        if key in given:
            return np.array(given[key], type_)
    for key in ("value_int", "value_ints"):
        if key in given:
            return np.array(given[key], np.int64)
    return Unknown(f"has {node.described} without a number")


def _filled(node: Node) -> Value:
    value = node.attributes.get("value")
    if value is None or (isinstance(value, np.ndarray) and not value.any()):
        return Zeros()
    return Unknown(f"makes arrays of one number, other than zero, in {node.described}")


def _shape(node: Node) -> Value:
    value = node.input(0)
    if not isinstance(value, Stream):
        return Unknown(f"takes the shape of a state or of zeros in {node.described}")
    entries = value.dims().entries
    end = node.attributes.get("end", len(entries))
    return Dims(entries[node.attributes.get("start", 0) : end])


def _stream(node: Node, place: int = 0) -> Stream | None:
    value = node.input(place)
    return value if isinstance(value, Stream) else None


def _same(node: Node) -> Value:
    value = node.input(0)
    return Unknown(f"has {node.described} without an input") if value is None else value


def _dropout(node: Node) -> Value:
    training = node.input(2)
    if training is not None and not (isinstance(training, np.ndarray) and not training.any()):
        return Unknown(f"drops values at random in {node.described}")
    return _same(node)


def _cast(node: Node) -> Value:
    value, to = _stream(node), node.attributes.get("to")
    whole = to in (6, 7)
    if value is None or (whole if not value.tokens else not whole) or (not whole and to != 1):
        return Unknown(f"changes the type of numbers in {node.described}")
    return value


def _linear(node: Node, weight: np.ndarray, bias: np.ndarray | None = None) -> Value:
    value = _stream(node)
    if value is None or not value.ends_in_features or value.tokens or weight.ndim != 2:
        return Unknown(f"multiplies in {node.described} other values than features by a matrix")
    weight = exact_float32(weight, f"the matrix of {node.described}")
    return value.then(Linear(module_name(node, 1), weight.T, bias), weight.shape[1])


def _matmul(node: Node) -> Value:
    weight = node.input(1)
    if isinstance(weight, np.ndarray):
        return _linear(node, weight)
    return Unknown(f"multiplies two computed values in {node.described}")


def _gemm(node: Node) -> Value:
    weight, bias, given = node.input(1), node.input(2), node.attributes
    plain = given.get("alpha", 1.0) == 1 and given.get("beta", 1.0) == 1
    if not isinstance(weight, np.ndarray) or not plain or given.get("transA"):
        return Unknown(
            f"scales or transposes its input, or multiplies two inputs, in {node.described}"
        )
    found = _linear(node, weight.T if given.get("transB") else weight)
    return found if bias is None else _biased(node, found, bias)


def _biased(node: Node, value: Value, bias: Value) -> Value:
    """A sum with a constant: the bias of the linear layer before."""
    refused = Unknown(
        f"adds a constant in {node.described}; l0gate reads the bias of a linear layer, once"
    )
    if not isinstance(value, Stream) or not isinstance(bias, np.ndarray) or not value.layers:
        return refused
    last, width = value.layers[-1], value.width
    fits = bias.size in (1, width) and bias.shape[-1:] in ((), (1,), (width,))
    fits = fits and bias.ndim <= len(value.axes)
    if not isinstance(last, Linear) or last.bias is not None or not fits or width is None:
        return refused
    whole = np.broadcast_to(bias.ravel(), (width,))
    found = value.with_bias(exact_float32(whole, f"the bias of {node.described}"))
    linear = found.layers[-1]
    names = [name for name, v in zip(node.input_names, node.inputs, strict=False) if v is bias]
    stem, dot, end = names[0].rpartition(".") if names else ("", "", "")
    named = dot and end == "bias" and stem.isprintable() and not (node.verbatim and last.name)
    if named and isinstance(linear, Linear):
        return replace(found, layers=(*found.layers[:-1], replace(linear, name=stem[:200])))
    return found


def _add(node: Node) -> Value:
    first, second = node.input(0), node.input(1)
    if isinstance(first, Stream) and isinstance(second, Stream):
        given, other = (first, second) if not first.layers else (second, first)
        fits = (
            not given.layers
            and given.source == other.source
            and given.axes == other.axes
            and given.width is not None
            and given.width in (1, other.width)
            and not other.last
        )
        if fits:
            return other.then(Skip(), other.width)
        return Unknown(
            f"adds two values in {node.described}; l0gate reads the sum of the net's input and its"
            " output, and biases"
        )
    if isinstance(first, Stream) and second is not None:
        return _biased(node, first, second)
    if isinstance(second, Stream) and first is not None:
        return _biased(node, second, first)
    return Unknown(f"adds other values in {node.described} than l0gate follows")


def _mul(node: Node) -> Value:
    """x sigmoid(x), which is swish."""
    pair = [value for value in node.inputs if isinstance(value, Stream)]
    for x, y in (pair, pair[::-1]) if len(pair) == 2 else ():
        gate = y.layers[-1:] == (Activation("sigmoid"),) and y.layers[:-1] == x.layers
        if gate and x.axes == y.axes and x.source == y.source:
            return x.then(Activation("swish"), x.width)
    return Unknown(f"multiplies two values in {node.described}, which l0gate does not read")


def _function(node: Node) -> Value:
    value = _stream(node)
    if value is None or value.tokens:
        return Unknown(f"applies {node.described} to other values than features")
    given = node.attributes
    alpha, beta = given.get("alpha"), given.get("beta")
    name = function_name(node.operator, alpha, beta)
    if name is not None:
        return value.then(Activation(name), value.width)
    if node.operator in ("LeakyRelu", "Elu"):
        function = {"LeakyRelu": "leaky_relu", "Elu": "elu"}[node.operator]
        entry = {"type": "activation", "function": function, "slope": float(alpha or 0)}
        return value.then(Other(entry), value.width)
    return Unknown(f"has {node.described} with alpha {alpha} and beta {beta}, which l0gate lacks")


def _named(name: str, node: Node) -> Value:
    value = _stream(node)
    if value is None or value.tokens:
        return Unknown(f"applies {node.described} to other values than features")
    return value.then(Activation(name), value.width)


def _softmax(node: Node) -> Value:
    value = _stream(node)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
    if value is None or axis not in (-1, len(value.axes) - 1) or not value.ends_in_features:
        return Unknown(f"has {node.described} over another axis than the features")
    return _named("softmax", node)


def _gelu(node: Node) -> Value:
    tanh = node.attributes.get("approximate", "none") == "tanh"
    return _named("gelu_tanh" if tanh else "gelu", node)


_CLIPS = {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6", (0.0, None): "relu"}


def _clip(node: Node) -> Value:
    ends: list[float | None] = []
    for place, key in ((1, "min"), (2, "max")):
        value = node.input(place)
        number = node.attributes.get(key)
        if isinstance(value, np.ndarray) and value.size == 1:
            number = float(value.ravel()[0])
        ends.append(number)
    name = _CLIPS.get((ends[0], ends[1]))  # type: ignore[arg-type]
    if name is None:
        return Unknown(f"clips to {ends} in {node.described}; l0gate has [-1, 1], [0, 6], [0, inf]")
    return _named(name, node)


_HANDLERS: Mapping[str, Callable[[Node], Value]] = {
    **MOVERS,
    "Add": _add,
    "Cast": _cast,
    "Clip": _clip,
    "Dropout": _dropout,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Identity": _same,
    "MatMul": _matmul,
    "Mul": _mul,
    "Softmax": _softmax,
    **dict.fromkeys(("Tanh", "Sigmoid", "Relu", "Softplus", "Softsign"), _function),
    **dict.fromkeys(("Elu", "LeakyRelu", "HardSigmoid"), _function),
}
