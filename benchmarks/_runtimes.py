"""One net, with the same weights, in each of the runtimes that are compared.

A runtime makes functions without arguments, which `_timing.in_turns` repeats. That of `sequence`
runs a whole sequence from a state of zeros and returns its outputs. That of `stream` runs one step
and keeps the state for the next step. ONNX Runtime is measured in two ways: with arrays as inputs
and outputs, as most users call it, and with buffers that are bound beforehand, which takes more
code and is faster on small nets. Torch runs in inference mode, which is entered once for all calls
(`inference`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from _nets import Array, Spec
from _onnx import OnnxRuntime

inference = torch.inference_mode


class Runtime(Protocol):
    """A net in a runtime. The functions return y (T, B, H), which may have more dimensions of 1."""

    def sequence(self, x: Array) -> Callable[[], Any]: ...

    def stream(self, x_t: Array) -> Callable[[], Any]: ...


class L0gate:
    """`Net.bind` with compiled kernels. With `handed_on`, `step` takes and returns the state."""

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


class Torch:
    """`torch.nn.LSTM` or `GRU`: one module, or one per layer if the sizes differ.

    With `cells`, one `LSTMCell` or `GRUCell` per layer.
    """

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
    """Check `steps` times that the outputs of all calls agree to 1e-4; returns the calls."""
    for step in range(steps):
        outputs = {name: np.asarray(call()) for name, call in calls.items()}
        expected = next(iter(outputs.values())).ravel()
        for name, y in outputs.items():
            difference = float(np.abs(y.ravel() - expected).max())
            if not difference <= 1e-4:
                raise AssertionError(f"{name} differs by {difference} in call {step}")
    return calls
