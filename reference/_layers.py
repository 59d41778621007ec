"""The layers of a net, each with its forward and hand-derived backward pass.

Everything around the scans of `_cells.py` or `_jit.py` stands here once: input products and weight
gradients as one matrix product for the whole sequence, both directions of a layer, gates, and the
check that the parameters fit. Activations are time first, (T, B, features).

A matrix reads its input x through gates z: W (x z). From G = dy^T x follow both gradients,
dW = G z and dz = column sums of G W, so the gated activations need not be kept.

Where the vocabulary is smaller than the number of positions, the rows of an embedding are
multiplied before they are gathered, and gradients are summed by token before they are multiplied:
see `Gathered`. A character model saves half of its multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from l0gate._errors import check
from l0gate.layout.stacked import join
from l0gate.reference._cells import Array, sigmoid

Parameters = Mapping[str, Array]
State = tuple[Any, ...]  # per layer and direction: (h, c) for an LSTM, h for a GRU


class Gathered(NamedTuple):
    """The activations table[tokens] (T, B, features), not yet written out."""

    table: Array
    tokens: Array


Input = Array | Gathered


class Gradients(dict[str, Array]):
    """Gradients by name; a name that is added twice holds the sum."""

    def add(self, name: str, gradient: Array) -> None:
        self[name] = self[name] + gradient if name in self else gradient


@dataclass(eq=False, repr=False)
class Pass:
    """What one pass through a net has in common for all layers."""

    parameters: Parameters
    dtype: np.dtype[Any]
    axes: Mapping[str, int]  # their sizes
    scans: ModuleType  # `_cells` or `_jit`
    keep: bool = True  # a tape for the backward pass
    lengths: Array | None = None
    gates: Mapping[str, Array] = field(default_factory=dict)  # by axis; of all axes or of none
    gradients: Gradients = field(default_factory=Gradients)
    gate_gradients: Gradients = field(default_factory=Gradients)

    def gate(self, axes: Sequence[str]) -> Array | None:
        """The gates of a dimension that runs over `axes`."""
        if not self.gates or not axes:
            return None
        return np.concatenate([self.gates[axis] for axis in axes])

    def add_matrix(self, name: str, product: Array, axes: Sequence[str]) -> None:
        """Add the gradients of a matrix and of the gates it reads through, from G = dy^T x."""
        gate = self.gate(axes)
        if gate is None:
            self.gradients.add(name, product)
            return
        self.gradients.add(name, product * gate)
        dgate = (product * self.parameters[name]).sum(axis=0)
        ends = np.cumsum([len(self.gates[axis]) for axis in axes])[:-1]
        for axis, part in zip(axes, np.split(dgate, ends), strict=True):
            self.gate_gradients.add(axis, part)


class Direction(NamedTuple):
    """One direction of a recurrent layer: the names of its parameters and of its neurons."""

    weight_ih: str
    weight_hh: str
    bias_ih: str
    bias_hh: str
    bias: bool
    axes: tuple[str]
    reverse: bool

    @property
    def names(self) -> tuple[str, ...]:
        biases = (self.bias_ih, self.bias_hh) if self.bias else ()
        return (self.weight_ih, self.weight_hh, *biases)


class Layer:
    """What a net asks of a layer; `reads` names the axes of its input, `names` its parameters."""

    name = ""
    reads: tuple[str, ...] = ()
    directions: tuple[Direction, ...] = ()
    states = 0  # arrays in the state of a direction
    # No dataclasses: each would add a millisecond to the loading of a net.

    @property
    def names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def check(self, parameters: Parameters, width: int | None) -> int | None:
        """Check the parameters' shapes for `width` features in; returns the features out."""
        raise NotImplementedError

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        """PyTorch's default initial parameters; `sizes` has one entry per direction, or one."""
        raise NotImplementedError

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Input, State, Any]:
        """The output, the new state (one entry per direction) and the tape for `backward`."""
        raise NotImplementedError

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool
    ) -> tuple[Array | None, State]:
        """Add the parameters' and gates' gradients to `run`; returns dx and the state's one.

        dx has the shape of x, or of its table where x is `Gathered`.
        """
        raise NotImplementedError


class Embedding(Layer):
    """Row x of `weight` (V, E) for every token x; a matrix reads the rows if `multiplied`."""

    def __init__(self, name: str, multiplied: bool) -> None:
        self.name, self.multiplied = name, multiplied

    @property
    def names(self) -> tuple[str, ...]:
        return (join(self.name, "weight"),)

    def check(self, parameters: Parameters, width: int | None) -> int:
        return int(matrix(parameters, self.names[0]).shape[1])

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return {self.names[0]: rng.standard_normal((width, sizes[0]))}

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Input, State, Any]:
        assert isinstance(x, np.ndarray)
        weight = run.parameters[self.names[0]]
        if self.multiplied and len(weight) < x.size:
            return Gathered(weight, x), (), None
        return weight.take(x, axis=0), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool
    ) -> tuple[Array | None, State]:
        size = len(run.parameters[self.names[0]])
        dweight = dy if tape is None else _scatter(tape.ravel(), rows(dy), size)
        run.gradients.add(self.names[0], dweight)
        return None, ()


class Linear(Layer):
    """y = weight (x z) + bias, with weight (O, I)."""

    def __init__(self, name: str, bias: bool, reads: tuple[str, ...]) -> None:
        self.name, self.bias, self.reads = name, bias, reads

    @property
    def names(self) -> tuple[str, ...]:
        return (join(self.name, "weight"),) + ((join(self.name, "bias"),) if self.bias else ())

    def check(self, parameters: Parameters, width: int | None) -> int:
        outputs, inputs = matrix(parameters, self.names[0]).shape
        expect(parameters, self.names[0], (outputs, inputs if width is None else width))
        for name in self.names[1:]:
            expect(parameters, name, (outputs,))
        return int(outputs)

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return uniform(rng, self.names, [(sizes[0], width), (sizes[0],)], width)

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Array, State, Any]:
        weight = run.parameters[self.names[0]]
        bias = run.parameters[self.names[1]] if self.bias else None
        return product(x, weight, bias, run.gate(self.reads)), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool
    ) -> tuple[Array | None, State]:
        read, dread = summed(tape, dy)
        run.add_matrix(self.names[0], dread.T @ read, self.reads)
        for name in self.names[1:]:
            run.gradients.add(name, rows(dy).sum(axis=0))
        if not need_dx:
            return None, ()
        weight = run.parameters[self.names[0]]
        return input_gradient(dread, weight, run.gate(self.reads), tape), ()


# function -> (itself, its derivative as a function of its output)
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0).astype(y.dtype)),
}


class Activation(Layer):
    """An elementwise function, a key of `ACTIVATIONS`."""

    def __init__(self, function: str) -> None:
        self.function = function

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    def check(self, parameters: Parameters, width: int | None) -> int | None:
        return width

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return {}

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Array, State, Any]:
        assert isinstance(x, np.ndarray)
        y = ACTIVATIONS[self.function][0](x)
        return y, (), y

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool
    ) -> tuple[Array | None, State]:
        return dy * ACTIVATIONS[self.function][1](tape), ()


def rows(x: Array) -> Array:
    """All positions of (T, B, features) as the rows of a matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def product(x: Input, weight: Array, bias: Array | None, z: Array | None) -> Array:
    """weight (x z) + bias, of shape (T, B, O)."""
    read = x.table if isinstance(x, Gathered) else rows(x)
    y: Array = (read if z is None else read * z) @ weight.T
    if bias is not None:
        y += bias
    if isinstance(x, Gathered):
        return y.take(x.tokens, axis=0)
    return y.reshape(*x.shape[:-1], len(weight))


def summed(x: Input, dy: Array) -> tuple[Array, Array]:
    """Rows of x and of dy whose products sum to the sum over all positions of dy^T x."""
    if isinstance(x, Gathered):
        return x.table, _scatter(x.tokens.ravel(), rows(dy), len(x.table))
    return rows(x), rows(dy)


def input_gradient(dread: Array, weight: Array, z: Array | None, x: Input) -> Array:
    """The gradient of x, or of its table, from that of the rows that `summed` gave."""
    dx: Array = dread @ weight
    if z is not None:
        dx *= z
    return dx if isinstance(x, Gathered) else dx.reshape(x.shape)


def _scatter(index: Array, rows: Array, size: int) -> Array:
    """The sum of the rows that share an index, for 0..size-1.

    Sorted, and a vector of ones times the rows of each index: several times as fast as
    `np.add.at` and `np.add.reduceat` on wide rows.
    """
    total = np.zeros((size, rows.shape[1]), rows.dtype)
    order = np.argsort(index, kind="stable")
    found, starts = np.unique(index[order], return_index=True)
    ones = np.ones(len(index), rows.dtype)
    for token, group in zip(found, np.split(order, starts)[1:], strict=True):
        np.dot(ones[: len(group)], rows[group], out=total[token])
    return total


def matrix(parameters: Parameters, name: str) -> Array:
    check(name in parameters, f"parameter `{name}` is missing")
    array = parameters[name]
    check(array.ndim == 2, f"parameter `{name}` has shape {array.shape}; it must be a matrix")
    return array


def expect(parameters: Parameters, name: str, shape: tuple[int, ...]) -> None:
    check(name in parameters, f"parameter `{name}` is missing")
    found = parameters[name].shape
    check(found == shape, f"parameter `{name}` has shape {found}; expected {shape}")


def uniform(
    rng: np.random.Generator, names: Sequence[str], shapes: Sequence[tuple[int, ...]], fan: int
) -> dict[str, Array]:
    """Uniform within 1/sqrt(fan) of 0; `names` may leave out the biases at the end."""
    bound = 1 / math.sqrt(max(fan, 1))
    return {
        name: rng.uniform(-bound, bound, shape) for name, shape in zip(names, shapes, strict=False)
    }
