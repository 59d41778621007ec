"""Layers that only run forward: convolution, batch normalisation, and joins of earlier outputs.

They are what trained nets of other frameworks contain around their recurrent layers. Arrays are
time first, (T, B, features), as everywhere in this package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.layout.stacked import join
from l0gate.reference._layers import (
    Layer,
    Parameters,
    Pass,
    RecurrentState,
    Weighted,
    expect,
    find,
)
from l0gate.reference._scan import Array


class Conv1d(Weighted):
    """y[t] = bias + sum over k of weight[:, :, k] x[t stride + k dilation - left].

    weight (O, I / groups, K), bias (O,). The input is padded with `left` and `right` zeros. With
    "causal" padding there are (K - 1) dilation zeros on the left, so that an output needs no later
    input. If the stride is 1 too, the layer streams: its state holds the last (K - 1) dilation
    inputs, which stand in for the zeros. Otherwise it runs whole sequences only.
    """

    trains = False

    def __init__(
        self, name: str, bias: bool, stride: int, dilation: int, groups: int, padding: Any
    ) -> None:
        self.name, self.bias, self.padding = name, bias, padding
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.causal = padding == "causal" and stride == 1

    def input_size(self, parameters: Parameters) -> int:
        return int(self._weight(parameters).shape[1]) * self.groups

    def _weight(self, parameters: Parameters) -> Array:
        weight = find(parameters, self.names[0])
        if weight.ndim != 3 or not weight.shape[2] or len(weight) % self.groups:
            raise L0GateError(
                f"parameter `{self.names[0]}` has shape {weight.shape}; expected (outputs, inputs,"
                f" kernel size), with outputs divisible by the {self.groups} groups"
            )
        return weight

    def check(self, parameters: Parameters, width: Any) -> int:
        outputs, inputs, kernel = self._weight(parameters).shape
        if width is not None and width != inputs * self.groups:
            expect(parameters, self.names[0], (outputs, width // self.groups, kernel))
        for name in self.names[1:]:
            expect(parameters, name, (outputs,))
        return int(outputs)

    def history(self, parameters: Parameters) -> int:
        """The number of earlier inputs that an output needs, if the layer streams; else 0."""
        return (parameters[self.names[0]].shape[2] - 1) * self.dilation if self.causal else 0

    def state_shapes(self, parameters: Parameters) -> tuple[tuple[tuple[int, ...], ...], ...]:
        size = self.history(parameters)
        return (((size, self.input_size(parameters)),),) if size else ()

    def forward(self, run: Pass, x: Any, state: RecurrentState) -> tuple[Any, RecurrentState, Any]:
        weight, bias = self.weight_and_bias(run.parameters)
        T, B, _ = x.shape
        size = self.history(run.parameters)
        if size:
            padded = np.concatenate((np.swapaxes(state[0], 0, 1), x))
            ends = np.full(B, T) if run.lengths is None else run.lengths
            at = ends[:, None] + np.arange(size)
            state = (padded[at, np.arange(B)[:, None]],)
        else:
            padded = np.pad(x, (self._padding(T, weight.shape[2]), (0, 0), (0, 0)))
        y = _convolve(padded, weight, self.stride, self.dilation, self.groups)
        return (y if bias is None else y + bias), state, None

    def _padding(self, T: int, kernel: int) -> tuple[int, int]:
        """The zeros before and after a sequence of T steps."""
        reach = (kernel - 1) * self.dilation
        if self.padding == "causal":
            return reach, 0
        if self.padding == "valid":
            return 0, 0
        if self.padding == "same":  # as many outputs as T / stride, rounded up
            total = max((-(-T // self.stride) - 1) * self.stride + reach + 1 - T, 0)
            return total // 2, total - total // 2
        left, right = self.padding
        return left, right


def _convolve(x: Array, weight: Array, stride: int, dilation: int, groups: int) -> Array:
    """weight (O, I / groups, K) over x (T, B, I), without padding."""
    outputs, inputs, kernel = weight.shape
    steps = max((len(x) - (kernel - 1) * dilation - 1) // stride + 1, 0)
    y = np.zeros((steps, x.shape[1], outputs), x.dtype)
    per_group = outputs // groups
    for k in range(kernel):
        read = x[k * dilation :][: steps * stride : stride]
        for group in range(groups):
            rows = slice(group * per_group, (group + 1) * per_group)
            columns = slice(group * inputs, (group + 1) * inputs)
            y[..., rows] += read[..., columns] @ weight[rows, :, k].T
    return y


class BatchNorm(Layer):
    """Batch normalisation with the statistics of training: y = x scale + shift, per feature."""

    trains = False

    def __init__(self, name: str, epsilon: float, affine: bool) -> None:
        self.name, self.epsilon, self.affine = name, epsilon, affine

    @property
    def names(self) -> tuple[str, ...]:
        stems = (*("weight", "bias") * self.affine, "running_mean", "running_var")
        return tuple(join(self.name, stem) for stem in stems)

    def input_size(self, parameters: Parameters) -> int:
        return len(find(parameters, self.names[-1]))

    def check(self, parameters: Parameters, width: Any) -> int:
        size = self.input_size(parameters) if width is None else int(width)
        for name in self.names:
            expect(parameters, name, (size,))
        return size

    def scale_and_shift(self, parameters: Parameters) -> tuple[Array, Array]:
        """The two vectors (F,) that the statistics and the parameters come to."""
        mean, variance = (parameters[name] for name in self.names[-2:])
        scale = (1 / np.sqrt(variance + self.epsilon)).astype(mean.dtype, copy=False)
        if not self.affine:
            return scale, -mean * scale
        weight, bias = (parameters[name] for name in self.names[:2])
        return weight * scale, bias - mean * weight * scale

    def forward(self, run: Pass, x: Any, state: RecurrentState) -> tuple[Any, RecurrentState, Any]:
        scale, shift = self.scale_and_shift(run.parameters)
        return x * scale + shift, (), None


class Slice(Layer):
    """The features start..stop-1 of its input."""

    trains = False

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def check(self, parameters: Parameters, width: Any) -> int:
        if width is not None and self.stop > width:
            raise L0GateError(f"{self.where} stops at {self.stop}, but reads {width} features")
        return self.stop - self.start

    def forward(self, run: Pass, x: Any, state: RecurrentState) -> tuple[Any, RecurrentState, Any]:
        return x[..., self.start : self.stop].copy(), (), None


class Join(Layer):
    """The sum, product or concatenation of outputs, or a tuple of them ("outputs")."""

    trains = False
    joins = True

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count

    def check(self, parameters: Parameters, width: Any) -> int | None:
        if None in width:
            raise L0GateError(
                f"{self.where} reads the input, but no layer with parameters does: the number of"
                " its features is not known"
            )
        if self.kind in ("concat", "outputs"):
            return int(sum(width))
        if set(width) - {1, max(width)}:
            raise L0GateError(f"{self.where} reads outputs of {width} features; they must agree")
        return int(max(width))

    def forward(self, run: Pass, x: Any, state: RecurrentState) -> tuple[Any, RecurrentState, Any]:
        if self.kind == "outputs":
            return tuple(part.copy() for part in x), (), None
        if self.kind == "concat":
            return np.concatenate(x, axis=-1), (), None
        y = x[0].copy()
        for other in x[1:]:
            y = y + other if self.kind == "add" else y * other
        return y, (), None


def reads_by_position(layer: Layer) -> bool:
    """Whether a layer needs all features of its inputs, in their places: a sum, product, slice."""
    return isinstance(layer, Slice) or (isinstance(layer, Join) and layer.kind != "concat")
