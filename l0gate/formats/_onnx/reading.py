"""Layers from an ONNX graph that is one line of operators from its input to its output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.constants import Constants, attributes
from l0gate.formats._onnx.order import FUNCTIONS, OPERATORS, from_onnx
from l0gate.formats.layers import (
    BLOCKS,
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Selection,
    Skip,
)

__all__ = ["read_graph"]

_CELLS = {operator: cell for cell, operator in OPERATORS.items()}
_OURS = {operator: name for name, operator in FUNCTIONS.items()}
_SAME = ("Identity", "Dropout", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
_KNOWN = "LSTM, GRU, RNN, Gemm, MatMul, Add, Gather, Transpose, Squeeze, Unsqueeze, Reshape,"
_KNOWN += f" Identity, Dropout, Cast, {', '.join(_OURS)}, Softmax, Elu, HardSigmoid"


def read_graph(graph: Any, given: Mapping[str, np.ndarray]) -> tuple[list[Layer], bool]:
    """The layers of a graph, and whether batches come before time.

    `given` has values for graph inputs that are weights. Raises `L0GateError` for an operator that
    l0gate does not read, and for a graph that is no line.
    """
    return _Line(graph, given).read()


class _Line:
    def __init__(self, graph: Any, given: Mapping[str, np.ndarray]) -> None:
        self.graph = graph
        self.constants = Constants(graph, given)
        weights = set(self.constants.arrays)
        inputs = [value for value in graph.input if value.name not in weights]
        check(len(inputs) > 0, "has no input")
        states = self._states()
        data = [value for value in inputs if value.name not in states]
        check(
            len(data) == 1,
            f"has the inputs {[v.name[:40] for v in data]}; l0gate reads graphs of one input and"
            " initial states. Give weights that are inputs as `constants`",
        )
        self.start = data[0].name
        self.here = {self.start}  # names of the value that the next layer reads
        self.ends: set[str] = set()  # final states
        self.layers: list[Layer] = []
        self.inputs = {self.start}  # names of the input, transposed or not
        self.batch_first = False
        self.directions = 0  # of the last recurrent layer, until its outputs are merged

    def _states(self) -> set[str]:
        """Graph inputs that are initial states of recurrent operators, or lengths."""
        found: set[str] = set()
        for node in self.graph.node:
            if node.op_type in _CELLS:
                found |= {name for name in node.input[4:7] if name}
        return found

    def read(self) -> tuple[list[Layer], bool]:
        for node in self.graph.node:
            if self.constants.take(node):
                continue
            self._node(node)
        outputs = [value.name for value in self.graph.output]
        check(
            any(name in self.here for name in outputs) or bool(self.ends & set(outputs)),
            f"ends in {[name[:40] for name in outputs]}, which is not what its last layer gives",
        )
        self._place_skip()
        return self.layers, self.batch_first

    def _place_skip(self) -> None:
        early = [layer for layer in self.layers[:-1] if isinstance(layer, Skip)]
        check(not early, "adds its input to the output of a layer that is not the last")

    def _node(self, node: Any) -> None:
        kind, options = node.op_type, attributes(node)
        reads = [name for name in node.input if name]
        if not any(name in self.here | self.inputs for name in reads):
            if all(name in self.ends or name in self.constants.shapes for name in reads):
                self.ends |= set(node.output)  # what a model does with its final states
                return
            raise L0GateError(f"has {self._where(node)}, which reads another value than the last")
        if kind in _CELLS:
            self._recurrent(node, _CELLS[kind], options)
        elif kind in ("Gemm", "MatMul"):
            self._product(node, kind, options)
        elif kind == "Add":
            self._sum(node)
        elif kind == "Gather":
            self._gather(node, options)
        elif kind == "Transpose":
            self._transpose(node, options)
        elif kind in _SAME or (kind == "Mul" and self._swish(node)):
            pass
        else:
            self._function(node, kind, options)
        # A cell that gives its final state only is a net that is read after the last step.
        given = node.output[0] or node.output[1]
        self.here = {given} | ({self.before} if kind == "Sigmoid" else set())

    before = ""  # what a sigmoid has read, which x * sigmoid(x) reads again

    def _where(self, node: Any) -> str:
        name = f" {node.name[:60]!r}" if node.name else ""
        return f"the operator {node.op_type[:40]}{name}"

    def _array(self, node: Any, position: int, what: str) -> np.ndarray:
        name = node.input[position] if position < len(node.input) else ""
        check(
            name in self.constants.arrays,
            f"has {self._where(node)}, whose {what} {name[:60]!r} is no constant; give it as"
            " `constants`",
        )
        return self.constants.arrays[name]

    def _function(self, node: Any, kind: str, options: Mapping[str, Any]) -> None:
        if kind in _OURS:
            if kind == "Sigmoid":
                self.before = node.input[0]
            self.layers.append(Activation(_OURS[kind]))
        elif kind == "Softmax":
            axis = options.get("axis", -1)
            check(
                axis in (-1, 2), f"has {self._where(node)} over the axis {axis}; expected the last"
            )
            self.layers.append(Activation("softmax"))
        elif kind == "Elu" and options.get("alpha", 1.0) == 1.0:
            self.layers.append(Activation("elu"))
        elif kind == "HardSigmoid":
            self.layers.append(Activation(self._hard_sigmoid(node, options)))
        else:
            raise L0GateError(f"has {self._where(node)}; l0gate reads {_KNOWN}")

    def _hard_sigmoid(self, node: Any, options: Mapping[str, Any]) -> str:
        alpha, beta = options.get("alpha", 0.2), options.get("beta", 0.5)
        for name, slope in (("hard_sigmoid", 1 / 6), ("hard_sigmoid_keras2", 0.2)):
            if abs(alpha - slope) < 1e-6 and abs(beta - 0.5) < 1e-6:
                return name
        raise L0GateError(f"has {self._where(node)} with alpha {alpha} and beta {beta}")

    def _swish(self, node: Any) -> bool:
        """x * sigmoid(x): takes the place of the sigmoid."""
        last = self.layers[-1] if self.layers else None
        if last != Activation("sigmoid") or self.before not in node.input:
            return False
        self.layers[-1] = Activation("swish")
        return True

    def _transpose(self, node: Any, options: Mapping[str, Any]) -> None:
        order = list(options.get("perm", ()))
        if order == [0, 2, 1, 3] and self.directions:  # (T, 2, B, H) to (T, B, 2, H)
            self.directions = 0
            return
        check(
            order in ([1, 0], [1, 0, 2], [0, 1, 2], [0, 1]),
            f"has {self._where(node)} with perm {order}; expected time and batch exchanged",
        )
        if order[0] == 1:
            self.batch_first = True
            if not self.layers:
                self.inputs.add(node.output[0])

    def _gather(self, node: Any, options: Mapping[str, Any]) -> None:
        axis = options.get("axis", 0)
        if node.input[0] in self.constants.arrays:
            weight = self._array(node, 0, "table")
            check(axis == 0 and not self.layers, f"has {self._where(node)} that is no embedding")
            self.layers.append(Embedding(self._name(node.input[0], "embedding"), weight))
            return
        index = self._array(node, 1, "index")
        check(
            axis in (2, -1) and index.ndim == 1 and not self.layers,
            f"has {self._where(node)} on the axis {axis}; expected a choice of input features",
        )
        width = self._input_width()
        check(
            index.dtype.kind in "iu" and bool(((index >= 0) & (index < width)).all()),
            f"has {self._where(node)} with an index outside 0..{width - 1}",
        )
        check(bool((np.diff(index) > 0).all()), f"has {self._where(node)} with an unsorted index")
        self.layers.append(Selection(index.astype(np.int64), width))

    def _input_width(self) -> int:
        for value in self.graph.input:
            if value.name == self.start:
                dims = value.type.tensor_type.shape.dim
                size = dims[2].dim_value if len(dims) == 3 else 0
                check(0 < size < 2**24, "does not say how many features its input has")
                return int(size)
        raise L0GateError("has no input")

    def _product(self, node: Any, kind: str, options: Mapping[str, Any]) -> None:
        check(node.input[0] in self.here, f"has {self._where(node)} with the weights first")
        weight = self._array(node, 1, "weight")
        check(weight.ndim == 2, f"has {self._where(node)} with weights of shape {weight.shape}")
        if kind == "MatMul" or not options.get("transB", 0):
            weight = weight.T
        bias = None
        if kind == "Gemm":
            scale = options.get("alpha", 1.0) == 1.0 and options.get("beta", 1.0) == 1.0
            check(
                scale and not options.get("transA", 0),
                f"has {self._where(node)} with alpha, beta or transA",
            )
            if len(node.input) > 2 and node.input[2]:
                bias = np.broadcast_to(self._array(node, 2, "bias").reshape(-1), len(weight))
        name = self._name(node.input[1], f"linear_{len(self.layers)}")
        self.layers.append(Linear(name, weight, bias))

    def _sum(self, node: Any) -> None:
        other = [name for name in node.input if name not in self.here]
        if len(other) == 1 and other[0] in self.constants.arrays:
            bias = self.constants.arrays[other[0]]
            last = self.layers[-1] if self.layers else None
            fits = isinstance(last, Linear) and last.bias is None
            check(
                fits and bias.size in (1, len(last.weight)),  # type: ignore[union-attr]
                f"has {self._where(node)} of a constant that is no bias of a linear layer",
            )
            assert isinstance(last, Linear)
            whole = np.broadcast_to(bias.reshape(-1), len(last.weight))
            self.layers[-1] = Linear(last.name, last.weight, whole)
            return
        check(
            len(other) == 1 and other[0] in self.inputs,
            f"has {self._where(node)}, which adds another value than a bias or the input",
        )
        self.layers.append(Skip())

    def _recurrent(self, node: Any, cell: str, options: Mapping[str, Any]) -> None:
        where = self._where(node)
        self._check_options(node, cell, options, where)
        both = options.get("direction", "forward") == "bidirectional"
        w, r = self._array(node, 1, "W"), self._array(node, 2, "R")
        ends = 2 if both else 1
        rows = BLOCKS[cell] * r.shape[-1] if r.ndim == 3 else -1
        check(
            w.ndim == 3 and r.ndim == 3 and w.shape[:2] == (ends, rows) == r.shape[:2],
            f"has {where} with W of shape {w.shape} and R of shape {r.shape}, which do not fit",
        )
        bias = None
        if len(node.input) > 3 and node.input[3]:
            bias = self._array(node, 3, "B")
            check(bias.shape == (ends, 2 * rows), f"has {where} with B of shape {bias.shape}")
        directions = []
        for end in range(ends):
            arrays = [from_onnx(cell, w[end]), from_onnx(cell, r[end])]
            if bias is not None:
                arrays += [from_onnx(cell, part) for part in np.split(bias[end], 2)]
            directions.append(Direction(*(np.asarray(a, np.float32) for a in arrays)))
        functions = self._functions(node, cell, options, where)
        name = self._name(node.input[1], f"{cell}_{len(self.layers)}")
        reset_after = cell != "gru" or bool(options.get("linear_before_reset", 0))
        self.layers.append(Recurrent(name, cell, tuple(directions), reset_after, *functions))
        self.directions = ends
        self.ends |= {name for name in node.output[1:] if name}
        check(
            node.output[0] != "" or not both,
            f"has {where} of two directions without the output Y: its final states belong to two"
            " time steps",
        )

    def _check_options(self, node: Any, cell: str, options: Mapping[str, Any], where: str) -> None:
        check(node.input[0] in self.here, f"has {where}, which reads another value than the last")
        direction = options.get("direction", "forward")
        check(
            direction in ("forward", "bidirectional"),
            f"has {where} of direction {direction!r}; expected forward or bidirectional",
        )
        check("clip" not in options, f"has {where} with clip")
        check(not options.get("input_forget"), f"has {where} with input_forget")
        if options.get("layout"):
            check(not self.layers, f"has {where} with layout=1 after other layers")
            self.batch_first = True
        inputs = [*node.input, *[""] * 8]
        for position, what in ((4, "sequence_lens"), (7, "peepholes P")):
            if position == 7 and (cell != "lstm" or self.constants.is_zero(inputs[7])):
                continue
            check(not inputs[position], f"has {where} with {what} {inputs[position][:60]!r}")
        names = {value.name for value in self.graph.input}
        for position in (5, 6):
            name = inputs[position]
            check(
                name in names or self.constants.is_zero(name),
                f"has {where} with an initial state {name[:60]!r} that is not zero",
            )

    def _functions(
        self, node: Any, cell: str, options: Mapping[str, Any], where: str
    ) -> tuple[str, ...]:
        """(activation, recurrent_activation) of the cell."""
        given = options.get("activations")
        if not given:
            return ()
        count = {"lstm": 3, "gru": 2, "rnn": 1}[cell]
        names = [str(name).lower() for name in given]
        repeated = names == names[:count] * (len(names) // count)
        check(len(names) >= count and repeated, f"has {where} with activations {given}")
        known = {operator.lower(): name for operator, name in _OURS.items()}
        alphas = list(options.get("activation_alpha", ()))
        found = []
        for name in names[:count]:
            if name == "hardsigmoid":
                alpha = alphas.pop(0) if alphas else 0.2
                found.append(self._hard_sigmoid(node, {"alpha": alpha}))
            else:
                check(name in known, f"has {where} with the activation {name!r}")
                found.append(known[name])
        check(cell != "lstm" or found[1] == found[2], f"has {where} with activations {given}")
        return (found[0],) if cell == "rnn" else (found[1], found[0])

    def _name(self, parameter: str, other: str) -> str:
        """A layer's name: that of its weights without the last part, if it is free."""
        base = parameter.rpartition(".")[0]
        used = {getattr(layer, "name", None) for layer in self.layers}
        plain = base and base.replace(".", "").replace("_", "").isalnum()
        return base if plain and base not in used else other
