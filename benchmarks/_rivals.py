"""One net, with the same weights, in each of the runtimes that are compared.

A runtime gives calls without arguments, to be repeated by `_measure.in_turns`: `sequence` runs a
whole sequence from a state of zeros and hands out its outputs; `stream` runs one step and carries
its state on. ONNX Runtime is there twice: as most call it, from arrays to arrays, and with buffers
bound beforehand, which takes more lines to write and is faster on small nets. Torch runs in
inference mode, entered once for all (`inference`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from l0gate.reference import Net

Array = np.ndarray[Any, Any]
BLOCKS = {"lstm": 4, "gru": 3}
ONNX_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # of the blocks: i o f g, and z r n
inference = torch.inference_mode


@dataclass(frozen=True)
class Spec:
    """A stack of recurrent layers, each with its own number of neurons."""

    cell: str
    input: int
    hidden: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Per time step and sequence.

        >>> Spec("lstm", 3, (5,)).multiply_adds
        160
        """
        reads = (self.input, *self.hidden)
        pairs = zip(reads, self.hidden, strict=False)
        return BLOCKS[self.cell] * sum((read + size) * size for read, size in pairs)

    def names(self, layer: int) -> list[str]:
        """The layer's parameters: input and recurrent matrix, and the bias of each."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [f"rnn.{kind}_l{layer}" for kind in kinds]

    def net(self) -> Net:
        return Net([{"type": self.cell, "name": "rnn", "num_layers": len(self.hidden)}])

    def parameters(self) -> dict[str, Array]:
        rng = np.random.default_rng(0)
        return self.net().init(rng, input_size=self.input, sizes={"rnn": self.hidden})

    def x(self, length: int, batch: int) -> Array:
        """An input (length, batch, input)."""
        x = np.random.default_rng(1).standard_normal((length, batch, self.input))
        return x.astype(np.float32)


class Runtime(Protocol):
    """A net that is ready to run. The calls return y (T, B, H), as the runtime lays it out."""

    def sequence(self, x: Array) -> Callable[[], Any]: ...

    def stream(self, x_t: Array) -> Callable[[], Any]: ...


class L0gate:
    """`Net.bind` with compiled kernels; a stream keeps its state, or is `handed_on` one."""

    def __init__(self, spec: Spec, parameters: dict[str, Array], handed_on: bool = False) -> None:
        self.bound, self.handed_on = spec.net().bind(parameters, engine="numba"), handed_on

    def sequence(self, x: Array) -> Callable[[], Any]:
        net = self.bound
        return lambda: net(x)[0]

    def stream(self, x_t: Array) -> Callable[[], Any]:
        if not self.handed_on:
            go_on = self.bound.stream().step
            return lambda: go_on(x_t)
        step, state = self.bound.step, None

        def call() -> Any:
            nonlocal state
            y, state = step(x_t, state)
            return y

        return call


class OnnxRuntime:
    """A session with all optimisations: `run`, from arrays to arrays; or `bound` to buffers.

    With bound buffers a call allocates nothing: a stream copies its new input into a buffer, and
    two sets of states take turns as input and output; a sequence finds its input in place.
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
            f"{part}{layer}_{when}": np.zeros((1, batch, size), np.float32)
            for layer, size in enumerate(self.spec.hidden)
            for part in state_parts(self.spec.cell)
        }

    def _binding(self, session: Any, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
        from onnxruntime import OrtValue

        self.held += [*inputs.values(), *outputs.values()]  # their memory is used, not kept alive
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
        return binding


class Torch:
    """`torch.nn.LSTM` or `GRU`, one module where the layers have one size; or the single cells."""

    def __init__(self, spec: Spec, parameters: dict[str, Array], cells: bool = False) -> None:
        sizes = list(zip((spec.input, *spec.hidden), spec.hidden, strict=False))
        equal = len(set(spec.hidden)) == 1
        kind = getattr(torch.nn, spec.cell.upper() + "Cell" * cells)
        if cells:
            modules = [kind(*size) for size in sizes]
        elif equal:
            modules = [kind(spec.input, spec.hidden[0], num_layers=len(spec.hidden))]
        else:
            modules = [kind(*size) for size in sizes]
        arrays = [parameters[name] for layer in range(len(sizes)) for name in spec.names(layer)]
        theirs = [parameter for module in modules for parameter in module.parameters()]
        with torch.no_grad():
            for parameter, array in zip(theirs, arrays, strict=True):
                parameter.copy_(torch.from_numpy(array))
        self.modules, self.cells = [module.eval() for module in modules], cells

    def sequence(self, x: Array) -> Callable[[], Any]:
        given, modules = torch.from_numpy(x), self.modules

        def call() -> Any:
            y = given
            for module in modules:
                y, _ = module(y)
            return y

        return call

    def stream(self, x_t: Array) -> Callable[[], Any]:
        modules, cells = self.modules, self.cells
        given = torch.from_numpy(x_t[None] if cells else x_t[None, None])
        states: list[Any] = [None] * len(modules)

        def call() -> Any:
            y = given
            for at, module in enumerate(modules):
                if cells:
                    states[at] = module(y, states[at])
                    y = states[at][0] if isinstance(states[at], tuple) else states[at]
                else:
                    y, states[at] = module(y, states[at])
            return y

        return call


def runtimes(spec: Spec, threads: int) -> dict[str, Runtime]:
    """The net in each runtime, by name."""
    torch.set_num_threads(threads)
    parameters = spec.parameters()
    return {
        "l0gate": L0gate(spec, parameters),
        "onnxruntime": OnnxRuntime(spec, parameters, threads),
        "bound": OnnxRuntime(spec, parameters, threads, bound=True),
        "torch": Torch(spec, parameters),
    }


def agreeing(calls: dict[str, Callable[[], Any]], steps: int = 1) -> dict[str, Callable[[], Any]]:
    """The calls, once all of them have given the same, `steps` times; else an error."""
    for step in range(steps):
        outputs = {name: np.asarray(call()) for name, call in calls.items()}
        expected = next(iter(outputs.values())).ravel()
        for name, y in outputs.items():
            difference = float(np.abs(y.ravel() - expected).max())
            if not difference <= 1e-4:
                raise AssertionError(f"{name} differs by {difference} in call {step}")
    return calls


def state_parts(cell: str) -> str:
    return "hc" if cell == "lstm" else "h"


def onnx_model(spec: Spec, parameters: dict[str, Array], with_state: bool) -> bytes:
    """The net as an ONNX model, time first; y has a direction axis behind the first."""
    from onnx import TensorProto, helper, numpy_helper

    parts = state_parts(spec.cell)
    gru = {"linear_before_reset": 1} if spec.cell == "gru" else {}
    nodes, weights, inputs, outputs = [], [], [("x", ("T", "B", spec.input))], []
    reads = "x"
    for layer, size in enumerate(spec.hidden):
        last = layer == len(spec.hidden) - 1
        w, r, b, c = (_in_onnx_order(spec, parameters[name]) for name in spec.names(layer))
        arrays = {f"W{layer}": w[None], f"R{layer}": r[None], f"B{layer}": np.concatenate([b, c])}
        arrays[f"B{layer}"] = arrays[f"B{layer}"][None]
        weights += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        before, after = ([f"{part}{layer}_{when}" for part in parts] for when in STATES)
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


STATES: Sequence[str] = ("before", "after")


def _in_onnx_order(spec: Spec, array: Array) -> Array:
    blocks = array.reshape(BLOCKS[spec.cell], -1, *array.shape[1:])
    return np.ascontiguousarray(blocks[ONNX_ORDER[spec.cell]].reshape(array.shape))
