"""The functions of the header, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from l0gate._quantize import quantized_rows
from l0gate.formats._c.arrays import LANES, blocked, blocked_rows, blocks_of, c_array
from l0gate.formats.format import refuse
from l0gate.formats.layers import (
    BLOCKS,
    Activation,
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Selection,
    Skip,
    input_size,
)

__all__ = ["FUNCTIONS", "Code", "code_of"]

_NAME = "a C header of l0gate"
_INSTEAD = "use the format 'onnx', which holds such nets"
# Function by name: an expression of x. The functions `tanh_` and `sigmoid_` are in the header.
FUNCTIONS = {
    "tanh": "{p}_tanh({x})",
    "sigmoid": "{p}_sigmoid({x})",
    "relu": "({x} > 0.0f ? {x} : 0.0f)",
    "linear": "({x})",
    "softsign": "({x} / (1.0f + ({x} < 0.0f ? -{x} : {x})))",
    "hard_tanh": "({x} < -1.0f ? -1.0f : ({x} > 1.0f ? 1.0f : {x}))",
    "relu6": "({x} < 0.0f ? 0.0f : ({x} > 6.0f ? 6.0f : {x}))",
    "swish": "({x} * {p}_sigmoid({x}))",
    "elu": "({x} > 0.0f ? {x} : expf({x}) - 1.0f)",
    "softplus": "({x} > 20.0f ? {x} : logf(1.0f + expf({x})))",
    "hard_sigmoid": "{p}_clip({x} * (1.0f / 6.0f) + 0.5f)",
    "hard_sigmoid_keras2": "{p}_clip({x} * 0.2f + 0.5f)",
}


@dataclass
class Code:
    """The parts of a header: arrays, functions, members of the state, lines of a step."""

    prefix: str
    int8: bool
    arrays: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    state: list[tuple[str, int]] = field(default_factory=list)  # member, floats
    step: list[str] = field(default_factory=list)
    products: set[int] = field(
        default_factory=set
    )  # numbers of gates that functions are needed for
    tokens: bool = False


def code_of(layers: Sequence[Layer], prefix: str, int8: bool) -> Code:
    """The code of a net. Raises `L0GateError`, naming the layer, for what a header cannot hold."""
    code = Code(prefix, int8)
    here, width = "x", 0
    for number, layer in enumerate(layers):
        if isinstance(layer, Selection):
            here = _selection(code, layer)
            width = len(layer.index)
        elif isinstance(layer, Embedding):
            code.tokens = True
            width = int(layer.weight.shape[1])
            here = f"{prefix}_row"
            _embedding(code, layer)
        elif isinstance(layer, Linear):
            here = _linear(code, layer, number, here)
            width = len(layer.weight)
        elif isinstance(layer, Recurrent):
            here = _recurrent(code, layer, number, here)
            width = layer.outputs
        elif isinstance(layer, Activation):
            here = _activation(code, layer, number, here, width)
        elif isinstance(layer, Skip):
            wide = width if input_size(layers) == width else 1
            code.step.append(
                f"for (i = 0; i < {width}; i++) y[i] = {here}[i] + x[{'i' if wide > 1 else '0'}];"
            )
            return code
        else:
            raise refuse(layer, _NAME, "has no such layer", _INSTEAD)
    code.step.append(f"for (i = 0; i < {width}; i++) y[i] = {here}[i];")
    return code


def _selection(code: Code, layer: Selection) -> str:
    p, count = code.prefix, len(layer.index)
    code.arrays.append(c_array("int", f"{p}_inputs", layer.index.astype(np.int64)))
    code.step += [f"float {p}_some[{count}];"]
    code.step += [f"for (i = 0; i < {count}; i++) {p}_some[i] = x[{p}_inputs[i]];"]
    return f"{p}_some"


def _embedding(code: Code, layer: Embedding) -> None:
    p = code.prefix
    rows, columns = layer.weight.shape
    _weights(code, f"{p}_table", layer.weight)
    value = f"{p}_table[token * {columns} + i]"
    if code.int8:
        value = f"(float){value} * {p}_table_scale[token]"
    code.step += [
        f"float {p}_row[{columns}];",
        f"if (token < 0 || token >= {rows}) token = 0;",
        f"for (i = 0; i < {columns}; i++) {p}_row[i] = {value};",
    ]


def _weights(code: Code, name: str, matrix: np.ndarray, gates: int = 0) -> None:
    """Add a matrix to the arrays, in blocks if it has gates, with scales if it is int8."""
    values, scales = quantized_rows(matrix) if code.int8 else (matrix, None)
    kind = "int8_t" if code.int8 else "float"
    code.arrays.append(c_array(kind, name, blocked(values, gates) if gates else values))
    if scales is not None:
        spread = blocked_rows(scales, gates) if gates else scales
        code.arrays.append(c_array("float", f"{name}_scale", spread))


def _product(code: Code, gates: int, name: str, x: str, columns: int, sums: str) -> str:
    """A call that adds a block of a matrix times x to the sums of all gates."""
    code.products.add(gates)
    step = columns * gates * LANES
    scale = f", {name}_scale + b * {gates * LANES}" if code.int8 else ""
    return f"{code.prefix}_add{gates}({sums}, {name} + b * {step}, {x}, {columns}{scale});"


def _linear(code: Code, layer: Linear, number: int, here: str) -> str:
    name = f"{code.prefix}_{number}"
    outputs, inputs = layer.weight.shape
    bias = np.zeros(outputs, np.float32) if layer.bias is None else layer.bias
    _weights(code, f"{name}_w", layer.weight, 1)
    code.arrays.append(c_array("float", f"{name}_b", blocked_rows(bias, 1)))
    size = blocks_of(outputs) * LANES
    code.step += [
        f"float {name}_y[{size}];",
        f"for (b = 0; b < {blocks_of(outputs)}; b++) {{",
        f"    float *sums = {name}_y + b * {LANES};",
        f"    for (i = 0; i < {LANES}; i++) sums[i] = {name}_b[b * {LANES} + i];",
        f"    {_product(code, 1, f'{name}_w', here, inputs, 'sums')}",
        "}",
    ]
    return f"{name}_y"


def _activation(code: Code, layer: Activation, number: int, here: str, width: int) -> str:
    p = code.prefix
    name = f"{p}_{number}_y"
    code.step.append(f"float {name}[{max(width, 1)}];")
    if layer.function == "softmax":
        code.step += [
            f"{name}[0] = {here}[0];",
            f"for (i = 1; i < {width}; i++) if ({here}[i] > {name}[0]) {name}[0] = {here}[i];",
            f"{{ const float top = {name}[0]; float sum = 0.0f;",
            f"  for (i = 0; i < {width}; i++) {name}[i] = expf({here}[i] - top);",
            f"  for (i = 0; i < {width}; i++) sum += {name}[i];",
            f"  for (i = 0; i < {width}; i++) {name}[i] /= sum; }}",
        ]
        return name
    expression = _expression(code, layer, layer.function, "v")
    code.step.append(
        f"for (i = 0; i < {width}; i++) {{ const float v = {here}[i]; {name}[i] = {expression}; }}"
    )
    return name


def _expression(code: Code, layer: Layer, function: str, x: str) -> str:
    if function not in FUNCTIONS:
        raise refuse(layer, _NAME, f"has no function {function!r}", _INSTEAD)
    return FUNCTIONS[function].format(p=code.prefix, x=x)


def _recurrent(code: Code, layer: Recurrent, number: int, here: str) -> str:
    if len(layer.directions) == 2:
        raise refuse(layer, _NAME, "streams, and a reverse direction reads the future", _INSTEAD)
    (end,) = layer.directions
    name = f"{code.prefix}_{number}"
    hidden, inputs, gates = end.hidden, layer.inputs, BLOCKS[layer.cell]
    count = blocks_of(hidden)
    size = count * LANES
    b_ih, b_hh = end.biases()
    _weights(code, f"{name}_w", end.weight_ih, gates)
    code.state.append((f"h{number}", size))
    code.step.append(f"{name}_step(s, {here});")
    common = {"gates": gates, "inputs": inputs, "hidden": hidden, "count": count}
    if layer.cell == "gru":
        body = _gru(code, layer, name, number, b_ih, b_hh, common)
    else:
        _weights(code, f"{name}_u", end.weight_hh, gates)
        code.arrays.append(c_array("float", f"{name}_b", blocked_rows(b_ih + b_hh, gates)))
        body = _lstm_or_rnn(code, layer, name, number, common)
    code.functions.append(
        f"static void {name}_step({code.prefix}_state *s, const float *x)\n{{\n"
        + "\n".join(f"    {line}" for line in body)
        + "\n}\n"
    )
    return f"s->h{number}"


def _lstm_or_rnn(
    code: Code, layer: Recurrent, name: str, number: int, sizes: dict[str, int]
) -> list[str]:
    gates, size = sizes["gates"], sizes["count"] * LANES
    if layer.cell == "lstm":
        code.state.append((f"c{number}", size))

    def act(function: str, x: str) -> str:
        return _expression(code, layer, function, x)

    gate, other = layer.recurrent_activation, layer.activation
    if layer.cell == "lstm":
        update = [
            f"    float *c = s->c{number} + b * {LANES};",
            f"    for (i = 0; i < {LANES}; i++) {{",
            f"        const float vi = sums[i], vf = sums[{LANES} + i];",
            f"        const float vg = sums[{2 * LANES} + i], vo = sums[{3 * LANES} + i];",
            f"        const float kept = {act(gate, 'vf')} * c[i];",
            f"        const float cell = kept + {act(gate, 'vi')} * {act(other, 'vg')};",
            "        c[i] = cell;",
            f"        next[b * {LANES} + i] = {act(gate, 'vo')} * {act(other, 'cell')};",
            "    }",
        ]
    else:
        update = [
            f"    for (i = 0; i < {LANES}; i++) {{",
            "        const float v = sums[i];",
            f"        next[b * {LANES} + i] = {act(other, 'v')};",
            "    }",
        ]
    return [
        f"float next[{size}];",
        "int b, i;",
        f"for (b = 0; b < {sizes['count']}; b++) {{",
        f"    float sums[{gates * LANES}];",
        f"    for (i = 0; i < {gates * LANES}; i++) sums[i] = {name}_b[b * {gates * LANES} + i];",
        f"    {_product(code, gates, f'{name}_w', 'x', sizes['inputs'], 'sums')}",
        f"    {_product(code, gates, f'{name}_u', f's->h{number}', sizes['hidden'], 'sums')}",
        *update,
        "}",
        f"for (i = 0; i < {size}; i++) s->h{number}[i] = next[i];",
    ]


def _gru(
    code: Code,
    layer: Recurrent,
    name: str,
    number: int,
    b_ih: np.ndarray,
    b_hh: np.ndarray,
    sizes: dict[str, int],
) -> list[str]:
    (end,) = layer.directions
    hidden, size = sizes["hidden"], sizes["count"] * LANES
    code.arrays.append(c_array("float", f"{name}_b", blocked_rows(b_ih, 3)))
    gate, other = layer.recurrent_activation, layer.activation

    def act(function: str, x: str) -> str:
        return _expression(code, layer, function, x)

    first = [
        f"float next[{size}];",
        "int b, i;",
        f"for (b = 0; b < {sizes['count']}; b++) {{",
        f"    float sums[{3 * LANES}];",
        f"    for (i = 0; i < {3 * LANES}; i++) sums[i] = {name}_b[b * {3 * LANES} + i];",
        f"    {_product(code, 3, f'{name}_w', 'x', sizes['inputs'], 'sums')}",
    ]
    last = [
        f"        next[b * {LANES} + i] = n + z * (s->h{number}[b * {LANES} + i] - n);",
        "    }",
        "}",
        f"for (i = 0; i < {size}; i++) s->h{number}[i] = next[i];",
    ]
    if layer.reset_after:
        _weights(code, f"{name}_u", end.weight_hh, 3)
        code.arrays.append(c_array("float", f"{name}_d", blocked_rows(b_hh, 3)))
        return [
            *first[:4],
            f"    float past[{3 * LANES}];",
            *first[4:],
            f"    for (i = 0; i < {3 * LANES}; i++) past[i] = {name}_d[b * {3 * LANES} + i];",
            f"    {_product(code, 3, f'{name}_u', f's->h{number}', hidden, 'past')}",
            f"    for (i = 0; i < {LANES}; i++) {{",
            "        const float vr = sums[i] + past[i];",
            f"        const float vz = sums[{LANES} + i] + past[{LANES} + i];",
            f"        const float r = {act(gate, 'vr')}, z = {act(gate, 'vz')};",
            f"        const float vn = sums[{2 * LANES} + i] + r * past[{2 * LANES} + i];",
            f"        const float n = {act(other, 'vn')};",
            *last,
        ]
    # The reset gates of all neurons are needed before any candidate.
    _weights(code, f"{name}_u", end.weight_hh[: 2 * hidden], 2)
    _weights(code, f"{name}_v", end.weight_hh[2 * hidden :], 1)
    code.arrays.append(c_array("float", f"{name}_d", blocked_rows(b_hh[: 2 * hidden], 2)))
    code.arrays.append(c_array("float", f"{name}_e", blocked_rows(b_hh[2 * hidden :], 1)))
    return [
        first[0],
        f"float held[{size}], update[{size}], candidate[{size}];",
        *first[1:4],
        f"    float past[{2 * LANES}];",
        *first[4:],
        f"    for (i = 0; i < {2 * LANES}; i++) past[i] = {name}_d[b * {2 * LANES} + i];",
        f"    {_product(code, 2, f'{name}_u', f's->h{number}', hidden, 'past')}",
        f"    for (i = 0; i < {LANES}; i++) {{",
        f"        const float vr = sums[i] + past[i], vz = sums[{LANES} + i] + past[{LANES} + i];",
        f"        held[b * {LANES} + i] = {act(gate, 'vr')} * s->h{number}[b * {LANES} + i];",
        f"        update[b * {LANES} + i] = {act(gate, 'vz')};",
        f"        candidate[b * {LANES} + i] = sums[{2 * LANES} + i];",
        "    }",
        "}",
        f"for (b = 0; b < {sizes['count']}; b++) {{",
        f"    float *sums = candidate + b * {LANES};",
        f"    for (i = 0; i < {LANES}; i++) sums[i] += {name}_e[b * {LANES} + i];",
        f"    {_product(code, 1, f'{name}_v', 'held', hidden, 'sums')}",
        f"    for (i = 0; i < {LANES}; i++) {{",
        "        const float vn = sums[i];",
        f"        const float z = update[b * {LANES} + i], n = {act(other, 'vn')};",
        *last,
    ]
