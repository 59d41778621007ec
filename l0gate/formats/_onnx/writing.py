"""An ONNX graph for whole sequences and for streaming.

Inputs are x and, for every recurrent layer, its initial state `h0_in` (and `c0_in`); outputs are y
and the final states `h0_out`. Time and batch may have any size, so that one file serves a whole
sequence and a stream of single steps; a caller that begins a sequence gives zeros.

ONNX's own option for batches before time (layout=1) is never used: ONNX Runtime refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from l0gate.formats._onnx.order import FUNCTIONS, OPERATORS, to_onnx
from l0gate.formats._onnx.package import needs_onnx
from l0gate.formats.format import Content, refuse
from l0gate.formats.layers import (
    Activation,
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Selection,
    Skip,
    input_size,
    output_size,
)

__all__ = ["onnx_model", "state_names"]

_OPSET, _IR = 17, 8  # old enough for the run times in use, new enough for every operator here
_NAME = "an ONNX file of l0gate"
_INSTEAD = "make it a torch module (`net.to_torch()`) and use torch.onnx.export"


def state_names(layers: Sequence[Layer]) -> list[tuple[str, Recurrent]]:
    """The names of the states, "h0", "c0", "h1", with the layer that each belongs to.

    A layer of two directions has one state of both.
    """
    recurrent = [layer for layer in layers if isinstance(layer, Recurrent)]
    return [
        (f"{letter}{number}", layer)
        for number, layer in enumerate(recurrent)
        for letter in ("h", "c")[: 2 if layer.cell == "lstm" else 1]
    ]


def onnx_model(content: Content, static: bool = False) -> bytes:
    """The bytes of the file. `static` fixes time and batch at 1, for compilers such as onnx2c."""
    onnx = needs_onnx()
    graph = _Graph(onnx, static, content.batch_first)
    for layer in content.layers:
        graph.add(layer)
    model = onnx.helper.make_model(
        graph.finished(content.layers),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="l0gate",
    )
    onnx.helper.set_model_props(
        model,
        {
            "l0gate.states": json.dumps([name for name, _ in state_names(content.layers)]),
            "l0gate.batch_first": json.dumps(content.batch_first),
            "l0gate.metadata": json.dumps(dict(content.metadata)),
            "l0gate.proof": content.proof,
        },
    )
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


class _Graph:
    """The nodes so far; `here` is the name of the value that the next layer reads."""

    def __init__(self, onnx: Any, static: bool, batch_first: bool) -> None:
        self.onnx, self.static, self.batch_first = onnx, static, batch_first
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self.states: list[tuple[str, int, int]] = []  # name, directions, neurons
        self.here = "x"
        self.tokens = False
        self.count = 0
        if batch_first:
            self.pending_transpose = True
        else:
            self.pending_transpose = False

    def node(
        self, operator: str, inputs: Sequence[str], outputs: int = 1, **options: Any
    ) -> list[str]:
        self.count += 1
        names = [f"{operator.lower()}_{self.count}"] + [
            f"{operator.lower()}_{self.count}_{i}" for i in range(1, outputs)
        ]
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), names, **options))
        return names

    def array(self, name: str, values: np.ndarray) -> str:
        self.arrays.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, layer: Layer) -> None:
        if self.pending_transpose:
            self.pending_transpose = False
            order = [1, 0] if isinstance(layer, Embedding) else [1, 0, 2]
            (self.here,) = self.node("Transpose", [self.here], perm=order)
            self.first = self.here
        if isinstance(layer, Selection):
            index = self.array("kept_inputs", layer.index.astype(np.int64))
            (self.here,) = self.node("Gather", [self.here, index], axis=2)
        elif isinstance(layer, Embedding):
            self.tokens = True
            weight = self.array(f"{layer.name}.weight", layer.weight)
            (self.here,) = self.node("Gather", [weight, self.here], axis=0)
        elif isinstance(layer, Linear):
            (self.here,) = self.node(
                "MatMul", [self.here, self.array(f"{layer.name}.weight", layer.weight.T)]
            )
            if layer.bias is not None:
                bias = self.array(f"{layer.name}.bias", layer.bias)
                (self.here,) = self.node("Add", [self.here, bias])
        elif isinstance(layer, Activation):
            self._activation(layer)
        elif isinstance(layer, Skip):
            (self.here,) = self.node("Add", [self.here, getattr(self, "first", "x")])
        elif isinstance(layer, Recurrent):
            self._recurrent(layer)
        else:
            raise refuse(layer, _NAME, "has no such layer", _INSTEAD)

    def _activation(self, layer: Activation) -> None:
        name = layer.function
        if name in FUNCTIONS:
            (self.here,) = self.node(FUNCTIONS[name], [self.here])
        elif name == "softmax":
            (self.here,) = self.node("Softmax", [self.here], axis=-1)
        elif name in ("hard_sigmoid", "hard_sigmoid_keras2"):
            alpha = 1 / 6 if name == "hard_sigmoid" else 0.2
            (self.here,) = self.node("HardSigmoid", [self.here], alpha=alpha, beta=0.5)
        elif name == "swish":
            (gate,) = self.node("Sigmoid", [self.here])
            (self.here,) = self.node("Mul", [self.here, gate])
        elif name == "elu":
            (self.here,) = self.node("Elu", [self.here], alpha=1.0)
        elif name != "linear":
            raise refuse(layer, _NAME, "has no such function", _INSTEAD)

    def _recurrent(self, layer: Recurrent) -> None:
        number = len({name[1:] for name, _, _ in self.states})
        hidden = {end.hidden for end in layer.directions}
        if len(hidden) > 1:
            raise refuse(layer, _NAME, "has directions of one size", "use `pad_to` or `equal=True`")
        (size,) = hidden
        ends = len(layer.directions)
        letters = ("h", "c")[: 2 if layer.cell == "lstm" else 1]
        self.states += [(f"{letter}{number}", ends, size) for letter in letters]
        stacked = [
            np.stack([to_onnx(layer.cell, getattr(end, stem)) for end in layer.directions])
            for stem in ("weight_ih", "weight_hh")
        ]
        inputs = [
            self.here,
            self.array(f"{layer.name}.W", stacked[0]),
            self.array(f"{layer.name}.R", stacked[1]),
            "",
        ]
        if layer.directions[0].bias_ih is not None:
            bias = [
                np.concatenate([to_onnx(layer.cell, b) for b in end.biases()])
                for end in layer.directions
            ]
            inputs[3] = self.array(f"{layer.name}.B", np.stack(bias))
        inputs += ["", *(f"{letter}{number}_in" for letter in letters)]
        options: dict[str, Any] = {
            "hidden_size": size,
            "direction": "forward" if ends == 1 else "bidirectional",
        }
        if layer.cell == "gru":
            options["linear_before_reset"] = int(layer.reset_after)
        options |= self._functions(layer)
        outputs = self.node(OPERATORS[layer.cell], inputs, 1 + len(letters), **options)
        self.nodes[-1].output[1:] = [f"{letter}{number}_out" for letter in letters]
        if ends == 1:
            axis = self.array(f"{layer.name}.one", np.array([1], np.int64))
            (self.here,) = self.node("Squeeze", [outputs[0], axis])
        else:  # (T, 2, B, H) to (T, B, 2 H)
            (swapped,) = self.node("Transpose", [outputs[0]], perm=[0, 2, 1, 3])
            shape = self.array(f"{layer.name}.shape", np.array([0, 0, 2 * size], np.int64))
            (self.here,) = self.node("Reshape", [swapped, shape])

    def _functions(self, layer: Recurrent) -> dict[str, Any]:
        """The functions of the cell, where they are not ONNX's defaults."""
        if layer.cell == "rnn":
            names = [layer.activation]
        elif layer.standard:
            return {}
        else:
            both = [layer.recurrent_activation, layer.activation]
            names = both if layer.cell == "gru" else [*both, layer.activation]
        found, alphas, betas = [], [], []
        for name in names:
            if name in ("hard_sigmoid", "hard_sigmoid_keras2"):
                found.append("HardSigmoid")
                alphas.append(1 / 6 if name == "hard_sigmoid" else 0.2)
                betas.append(0.5)
            elif name in FUNCTIONS:
                found.append(FUNCTIONS[name])
            else:
                raise refuse(layer, _NAME, f"has no cell with {name!r}", _INSTEAD)
        options: dict[str, Any] = {"activations": found * len(layer.directions)}
        if alphas:
            options |= {
                "activation_alpha": alphas * len(layer.directions),
                "activation_beta": betas * len(layer.directions),
            }
        return options

    def finished(self, layers: Sequence[Layer]) -> Any:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        if self.batch_first:
            (self.here,) = self.node("Transpose", [self.here], perm=[1, 0, 2])
        self.nodes.append(helper.make_node("Identity", [self.here], ["y"]))
        time, batch = (1, 1) if self.static else ("time", "batch")
        first, second = (batch, time) if self.batch_first else (time, batch)
        width = input_size(layers)
        shape = [first, second] if width is None else [first, second, width]
        kind = kinds.INT64 if self.tokens else kinds.FLOAT
        inputs = [helper.make_tensor_value_info("x", kind, shape)]
        outputs = [
            helper.make_tensor_value_info("y", kinds.FLOAT, [first, second, output_size(layers)])
        ]
        for name, ends, size in self.states:
            for holder, suffix in ((inputs, "in"), (outputs, "out")):
                holder.append(
                    helper.make_tensor_value_info(
                        f"{name}_{suffix}", kinds.FLOAT, [ends, batch, size]
                    )
                )
        return helper.make_graph(self.nodes, "l0gate", inputs, outputs, self.arrays)
