"""The graph of a net: any length, any batch, and the states in and out.

Inputs are `x`, then `h0_in`, `c0_in`, `h1_in`, ... for every recurrent layer and direction, in the
order of l0gate's states, each (1, B, H); outputs are `y`, then `h0_out`, ... So one file runs whole
sequences, from states of zeros, and streams, with its last states. Each direction of a layer is a
node of its own, since sizes may differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats._onnx.functions import cell_functions, node_of
from l0gate.formats._onnx.order import to_onnx
from l0gate.formats._onnx.package import needs_onnx
from l0gate.formats.format import Content, refuse
from l0gate.formats.layers import (
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Other,
    Recurrent,
    Selection,
    Skip,
    input_size,
    output_size,
    recurrent_layers,
)

__all__ = ["PREFIX", "PRODUCER", "model_bytes"]

PRODUCER, PREFIX = "l0gate", "l0gate."
_NAME = "ONNX"
_INSTEAD = "use l0gate.save, whose files hold every net of l0gate"
_LARGEST = 2**31 - 2**20  # bytes of a protobuf message, with some left for the graph


def model_bytes(content: Content, *, static: bool) -> bytes:
    """The bytes of the file. With `static`, length and batch are 1, for compilers."""
    graph = _Graph(content.layers, content.batch_first, static)
    return graph.finished(content)


class _Graph:
    def __init__(self, layers: Sequence[Layer], batch_first: bool, static: bool) -> None:
        self.onnx = needs_onnx()
        self.layers, self.batch_first = layers, batch_first
        self.time: int | str = 1 if static else "T"
        self.batch: int | str = 1 if static else "B"
        if static:
            for stack in recurrent_layers(layers):
                if len(stack.directions) == 2:
                    raise refuse(
                        stack, "ONNX with static=True", "runs forward only", "leave it out"
                    )
        self.nodes: list[Any] = []
        self.names: set[str] = set()
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.states: list[dict[str, Any]] = []
        self.opset = 17
        width = input_size(layers)
        types = self.onnx.TensorProto
        lead = [self.batch, self.time] if batch_first else [self.time, self.batch]
        if width is None:
            self.inputs.append(self._info("x", lead, types.INT64))
        else:
            self.inputs.append(self._info("x", [*lead, width]))
        self.width = 0 if width is None else width
        value = "x"
        if batch_first:
            value = self.add("Transpose", [value], perm=[1, 0, 2] if width else [1, 0])
        first = value
        for place, layer in enumerate(layers):
            value = self._layer(place, layer, value, first)
        if batch_first:
            value = self.add("Transpose", [value], perm=[1, 0, 2])
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], ["y"]))
        self.outputs.insert(0, self._info("y", [*lead, output_size(layers)]))

    def _info(self, name: str, shape: Sequence[Any], type_: int = 1) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, type_, list(shape))

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str = "",
        outputs: Sequence[str] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node; returns the name of its first output."""
        own = [f"v{len(self.nodes)}"] if outputs is None else list(outputs)
        while name and name in self.names:
            name += "_"  # ONNX Runtime takes every name once
        self.names.add(name)
        self.nodes.append(
            self.onnx.helper.make_node(operator, list(inputs), own, name, **attributes)
        )
        return own[0]

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an initializer; returns its name, which no other has."""
        while name in self.weights:
            name += "_"
        self.weights[name] = array
        return name

    def _layer(self, place: int, layer: Layer, value: str, first: str) -> str:
        if isinstance(layer, Selection):
            index = self.constant("kept_inputs", np.asarray(layer.index, np.int64))
            return self.add("Gather", [value, index], axis=2)
        if isinstance(layer, Embedding):
            table = self.constant(f"{layer.name}.weight", layer.weight)
            return self.add("Gather", [table, value], layer.name, axis=0)
        if isinstance(layer, Linear):
            return self._linear(layer, value)
        if isinstance(layer, Activation):
            return self._function(layer, layer.function, None, value)
        if isinstance(layer, Other) and layer.entry["type"] == "activation":
            return self._function(layer, layer.entry["function"], layer.entry.get("slope"), value)
        if isinstance(layer, Skip):
            return self.add("Add", [value, first])
        if isinstance(layer, Recurrent):
            return self._recurrent(layer, value)
        raise refuse(layer, _NAME, "as l0gate writes it has no such layer", _INSTEAD)

    def _linear(self, layer: Linear, value: str) -> str:
        weight = self.constant(f"{layer.name}.weight", np.ascontiguousarray(layer.weight.T))
        value = self.add("MatMul", [value, weight], layer.name)
        if layer.bias is None:
            return value
        return self.add("Add", [value, self.constant(f"{layer.name}.bias", layer.bias)])

    def _function(self, layer: Layer, name: str, slope: float | None, value: str) -> str:
        if name in ("gelu", "gelu_tanh"):
            self.opset = 20  # the first with Gelu
            return self.add("Gelu", [value], approximate="tanh" if name == "gelu_tanh" else "none")
        if name == "softmax":
            return self.add("Softmax", [value], axis=-1)
        if name == "swish":
            return self.add("Mul", [value, self.add("Sigmoid", [value])])
        if name in ("hard_tanh", "relu6"):
            low, high = (-1, 1) if name == "hard_tanh" else (0, 6)
            ends = [self.constant(f"bound{e}", np.array(e, np.float32)) for e in (low, high)]
            return self.add("Clip", [value, *ends])
        if name == "linear":
            return value
        found = node_of(name, slope)
        if found is None:
            raise refuse(layer, _NAME, f"has no function {name!r}", _INSTEAD)
        numbers = {"alpha": found.alpha, "beta": found.beta}
        given: dict[str, Any] = {
            key: number for key, number in numbers.items() if number is not None
        }
        return self.add(found.operator, [value], **given)

    def _recurrent(self, layer: Recurrent, value: str) -> str:
        both = [
            self._direction(layer, end, value, "_reverse" if place else "")
            for place, end in enumerate(layer.directions)
        ]
        return both[0] if len(both) == 1 else self.add("Concat", both, axis=2)

    def _direction(self, layer: Recurrent, end: Direction, value: str, suffix: str) -> str:
        name = f"{layer.name}{suffix}"
        inputs = [value, *self._weights(layer.cell, end, name), ""]
        parts = "hc" if layer.cell == "lstm" else "h"
        number = len(self.states)
        states = {part: f"{part}{number}" for part in parts}
        shape = [1, self.batch, end.hidden]
        for state in states.values():
            self.inputs.append(self._info(f"{state}_in", shape))
            self.outputs.append(self._info(f"{state}_out", shape))
            inputs.append(f"{state}_in")
        self.states.append(
            {
                "layer": layer.name,
                "reverse": bool(suffix),
                "inputs": [f"{state}_in" for state in states.values()],
                "outputs": [f"{state}_out" for state in states.values()],
                "size": end.hidden,
            }
        )
        outputs = [f"v{len(self.nodes)}", *(f"{state}_out" for state in states.values())]
        attributes = self._attributes(layer)
        if suffix:
            attributes["direction"] = "reverse"
        y = self.add(
            layer.cell.upper(), inputs, name, outputs, hidden_size=end.hidden, **attributes
        )
        self.weights.setdefault("directions_axis", np.array([1], np.int64))
        return self.add("Squeeze", [y, "directions_axis"])  # (T, 1, B, H) -> (T, B, H)

    def _weights(self, cell: str, end: Direction, name: str) -> list[str]:
        arrays = {
            "W": to_onnx(cell, end.weight_ih)[None],
            "R": to_onnx(cell, end.weight_hh)[None],
        }
        if end.bias_ih is not None and end.bias_hh is not None:
            both = [to_onnx(cell, end.bias_ih), to_onnx(cell, end.bias_hh)]
            arrays["B"] = np.concatenate(both)[None]
        found = [self.constant(f"{name}.{key}", array) for key, array in arrays.items()]
        return found if len(found) == 3 else [*found, ""]

    def _attributes(self, layer: Recurrent) -> dict[str, Any]:
        gates, own = layer.recurrent_activation, layer.activation
        names = {"lstm": [gates, own, own], "gru": [gates, own], "rnn": [own]}[layer.cell]
        found: dict[str, Any] = {}
        if layer.cell == "gru":
            found["linear_before_reset"] = int(layer.reset_after)
        if not layer.standard:
            functions = cell_functions(names)
            if functions is None:
                why = f"has no cell with the functions {' and '.join(dict.fromkeys(names))}"
                raise refuse(layer, _NAME, why, _INSTEAD)
            found |= {key: value for key, value in functions.items() if value}
        return found

    def finished(self, content: Content) -> bytes:
        size = sum(array.nbytes for array in self.weights.values())
        if size > _LARGEST:
            raise L0GateError(
                f"`net` has {size:,} bytes of weights; one ONNX file holds {_LARGEST:,}"
            )
        onnx = self.onnx
        tensors = [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.weights.items()
        ]
        graph = onnx.helper.make_graph(self.nodes, "l0gate", self.inputs, self.outputs, tensors)
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", self.opset)],
            ir_version=8 if self.opset == 17 else 9,
            producer_name=PRODUCER,
        )
        own = dict(content.metadata)
        foreign = own.pop("onnx", {})
        texts = {str(key): str(value) for key, value in foreign.items()}
        texts[f"{PREFIX}states"] = json.dumps(self.states)
        texts[f"{PREFIX}batch_first"] = json.dumps(self.batch_first)
        if own:
            texts[f"{PREFIX}metadata"] = json.dumps(own)
        if content.certificate is not None:
            texts[f"{PREFIX}certificate"] = str(content.certificate)
        if content.proof:
            texts[f"{PREFIX}proof"] = content.proof
        onnx.helper.set_model_props(model, texts)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
