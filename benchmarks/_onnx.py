"""Converts a net to an ONNX model, and runs it in ONNX Runtime."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from _nets import Array, Spec

from l0gate.layout.stacked import BLOCKS

# The order of a cell's gates in ONNX, as positions in PyTorch's order: i o f g, and z r n.
ONNX_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


class OnnxRuntime:
    """A net in ONNX Runtime, with all optimisations.

    By default, a call takes arrays and returns new ones. With `bound`, inputs and outputs are bound
    to buffers beforehand, and a call allocates nothing. A step copies its input into a buffer; two
    sets of states take turns as input and output. A sequence is bound to its input array.
    """

    def __init__(
        self, spec: Spec, parameters: dict[str, Array], threads: int, bound: bool = False
    ) -> None:
        self.spec, self.parameters, self.threads = spec, parameters, threads
        self.bound = bound
        self.held: list[Array] = []

    def sequence(self, x: Array) -> Callable[[], Any]:
        length, batch, _ = x.shape
        if not self.bound:
            run, given = self._session(with_state=False).run, {"x": x}
            return lambda: run(["y"], given)[0]
        y = np.empty((length, 1, batch, self.spec.hidden[-1]), np.float32)
        session = self._session(with_state=False)
        binding = self._binding(session, {"x": x}, {"y": y, **self._states(batch, "after")})

        def call() -> Any:
            session.run_with_iobinding(binding)
            return y

        return call

    def stream(self, x_t: Array) -> Callable[[], Any]:
        if not self.bound:
            run, given = self._session(with_state=True).run, {"x": x_t[None, None]}
            given |= self._states(1, "before")
            before, after = (list(self._states(1, when)) for when in ("before", "after"))

            def step() -> Any:
                y, *states = run(["y", *after], given)
                given.update(zip(before, states, strict=True))
                return y

            return step
        y = np.empty((1, 1, 1, self.spec.hidden[-1]), np.float32)
        x = np.empty((1, 1, self.spec.input), np.float32)
        one, other = self._states(1, "before"), self._states(1, "before")
        session = self._session(with_state=True)
        bindings = itertools.cycle(
            self._binding(
                session,
                {"x": x, **before},
                {"y": y, **{name.replace("before", "after"): to for name, to in after.items()}},
            )
            for before, after in ((one, other), (other, one))
        )

        def call() -> Any:
            x[...] = x_t
            session.run_with_iobinding(next(bindings))
            return y

        return call

    @functools.cache  # noqa: B019 - a runtime lives as long as its script needs it
    def _session(self, with_state: bool) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            onnx_model(self.spec, self.parameters, with_state),
            options,
            providers=["CPUExecutionProvider"],
        )

    def _states(self, batch: int, when: str) -> dict[str, Array]:
        return {
            name: np.zeros((1, batch, size), np.float32)
            for layer, size in enumerate(self.spec.hidden)
            for name in _state_names(self.spec.cell, layer, when)
        }

    def _binding(self, session: Any, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
        from onnxruntime import OrtValue

        self.held += [*inputs.values(), *outputs.values()]  # ONNX Runtime keeps no reference
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
        return binding


def onnx_model(spec: Spec, parameters: dict[str, Array], with_state: bool) -> bytes:
    """The net as an ONNX model of x (T, B, input); its y is (T, 1, B, hidden)."""
    from onnx import TensorProto, helper, numpy_helper

    gru = {"linear_before_reset": 1} if spec.cell == "gru" else {}
    nodes, weights, inputs, outputs = [], [], [("x", ("T", "B", spec.input))], []
    reads = "x"
    for layer, size in enumerate(spec.hidden):
        last = layer == len(spec.hidden) - 1
        w, r, b, c = (_in_onnx_order(spec, parameters[name]) for name in spec.names(layer))
        arrays = {f"W{layer}": w[None], f"R{layer}": r[None], f"B{layer}": np.concatenate([b, c])}
        arrays[f"B{layer}"] = arrays[f"B{layer}"][None]
        weights += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        before, after = (_state_names(spec.cell, layer, when) for when in ("before", "after"))
        shape = (1, "B", size)
        inputs += [(name, shape) for name in before] if with_state else []
        outputs += [(name, shape) for name in after]
        names = ["x" if layer == 0 else reads, *arrays]
        y = "y" if last else f"y{layer}"
        nodes.append(
            helper.make_node(
                spec.cell.upper(),
                names + (["", *before] if with_state else []),
                [y, *after],
                hidden_size=size,
                **gru,
            )
        )
        if not last:
            reads = f"z{layer}"
            nodes.append(helper.make_node("Squeeze", [y, "direction"], [reads]))
    weights += [numpy_helper.from_array(np.array([1]), "direction")] * (len(spec.hidden) > 1)
    outputs.append(("y", ("T", 1, "B", spec.hidden[-1])))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def _state_names(cell: str, layer: int, when: str) -> list[str]:
    """The names of a layer's state, as inputs (`when` is "before") or as outputs ("after")."""
    return [f"{part}{layer}_{when}" for part in ("hc" if cell == "lstm" else "h")]


def _in_onnx_order(spec: Spec, array: Array) -> Array:
    blocks = array.reshape(BLOCKS[spec.cell], -1, *array.shape[1:])
    return np.ascontiguousarray(blocks[ONNX_ORDER[spec.cell]].reshape(array.shape))
