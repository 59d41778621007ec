"""The layers of a net, each with its forward pass and its backward pass, derived by hand.

`Layer` is the interface; `Pass` holds what all layers share during one pass through the net.
Embedding, linear and activation layers are here; recurrent layers are in `_recurrent.py`, layers
that only run forward in `_forward_only.py`.
Activations are time first, (T, B, features). A layer multiplies its weight matrix
by the inputs of the whole sequence at once: see `_products.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from l0gate._errors import L0GateError
from l0gate.layout.stacked import join
from l0gate.reference._activations import DERIVATIVES, activation
from l0gate.reference._engine import Engine
from l0gate.reference._products import (
    Gathered,
    Input,
    input_gradient,
    product,
    rows,
    sum_by_index,
    summed,
)
from l0gate.reference._scan import Array

Parameters = Mapping[str, Array]
# One entry per recurrent layer and direction: (h, c) for an LSTM, else h, each (B, H); and one per
# causal convolution: its last inputs.
RecurrentState = tuple[Any, ...]


class Gradients(dict[str, Array]):
    """A dict of gradients by name, in which `add` sums the gradients that have the same name."""

    def add(self, name: str, gradient: Array) -> None:
        self[name] = self[name] + gradient if name in self else gradient


@dataclass(eq=False, repr=False)
class Pass:
    """What all layers of a net share in one forward pass and its backward pass."""

    parameters: Parameters
    dtype: np.dtype[Any]
    axis_sizes: Mapping[str, int]
    engine: Engine
    keep: bool = True  # whether to keep a tape for the backward pass
    lengths: Array | None = None  # (B,)
    gates: Mapping[str, Array] = field(default_factory=dict)  # axis -> gates; all axes or none
    gradients: Gradients = field(default_factory=Gradients)
    gate_gradients: Gradients = field(default_factory=Gradients)

    def gate(self, axes: Sequence[str]) -> Array | None:
        """The gates (I,) of a matrix whose I input features are the neurons of `axes`, in order.

        None if no gates were given.
        """
        if not self.gates or not axes:
            return None
        return np.concatenate([self.gates[axis] for axis in axes])

    def add_matrix(self, name: str, product: Array, axes: Sequence[str]) -> None:
        """Add the gradients of the matrix W (O, I) of that name and of its input gates z (I,).

        `product` (O, I) is G = dy^T x, summed over all positions: see `_products.py`. `axes` are
        the axes of the I input features.
        """
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
    """One direction of a recurrent layer: the names of its parameters and of its hidden axis."""

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
    """The interface of all layers."""

    name = ""
    where = ""  # how messages name it
    sources: tuple[
        int, ...
    ] = ()  # what it reads: 0 is the net's input, k + 1 the output of layer k
    reads: tuple[str, ...] = ()  # the gated axes of its input features, in order
    directions: tuple[Direction, ...] = ()  # of a recurrent layer
    states = 0  # the number of arrays in the state of one direction
    trains = True  # whether it has a backward pass
    joins = False  # whether it has several inputs
    causal = True  # whether its output at a step depends on that step and earlier ones only
    # Layers are plain classes, since each dataclass adds a millisecond to loading a net.

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return ()

    def input_size(self, parameters: Parameters) -> int | None:
        """The number of its input features (of an embedding, tokens); None if any number fits."""
        return None

    def state_shapes(self, parameters: Parameters) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For every entry of its state, the shapes of the entry's arrays for one sequence."""
        return tuple(
            ((parameters[end.weight_hh].shape[1],),) * self.states for end in self.directions
        )

    def check(self, parameters: Parameters, width: Any) -> int | None:
        """Check the shapes of the parameters; returns the number of output features.

        `width` is the number of input features, or None if it is not known yet; for a layer with
        several inputs, a list of these.
        """
        raise NotImplementedError

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        """Random initial parameters, distributed as PyTorch's defaults, for `width` input features.

        `sizes` has the number of output features, of a recurrent layer one number per direction.
        """
        raise L0GateError(f"{self.where} gets no random parameters: its sizes are not given")

    def forward(self, run: Pass, x: Any, state: RecurrentState) -> tuple[Any, RecurrentState, Any]:
        """The output, the new state (one entry per direction) and the tape for `backward`.

        x is a list of inputs if the layer has several.
        """
        raise NotImplementedError

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: RecurrentState, need_dx: bool
    ) -> tuple[Array | None, RecurrentState]:
        """Add the gradients of parameters and gates to `run`; returns those of x and of the state.

        dy is the gradient of the output, dstate that of the new state. The gradient of x has the
        shape of x, or of its table where x is `Gathered`; it may be None if `need_dx` is False.
        """
        raise L0GateError(f"{self.where} has no backward pass")


def run_chain(
    chain: Sequence[Layer], run: Pass, x: Array, state: RecurrentState
) -> tuple[Any, RecurrentState, list[Any]]:
    """Run x through all layers in order. Returns the output, the new state and a tape per layer.

    The output is a tuple if the net has several. If `run.keep` is False, the list of tapes is
    empty.
    """
    tapes: list[Any] = []
    new_state: RecurrentState = ()
    later = read_later(chain)
    outputs: dict[int, Any] = {0: x}
    y: Any = x
    for index, layer in enumerate(chain):
        entries = len(layer.state_shapes(run.parameters))
        own, state = state[:entries], state[entries:]
        read = [y if source == index else outputs[source] for source in layer.sources]
        y, own, tape = layer.forward(run, read if layer.joins else read[0], own)
        new_state += own
        if index + 1 in later:
            outputs[index + 1] = y
        if run.keep:
            tapes.append(tape)
    return y, new_state, tapes


def read_later(chain: Sequence[Layer]) -> set[int]:
    """The outputs, numbered as in `Layer.sources`, that another than the next layer reads."""
    return {s for index, layer in enumerate(chain) for s in layer.sources if s != index}


class Embedding(Layer):
    """Replaces every token by its row of the matrix `weight` (V, E).

    If `multiplied` is True, the next layer multiplies by a matrix. It may then be given a
    `Gathered` input: it multiplies the whole of `weight` first, and looks up rows of the product.
    """

    def __init__(self, name: str, multiplied: bool) -> None:
        self.name, self.multiplied = name, multiplied

    @property
    def names(self) -> tuple[str, ...]:
        return (join(self.name, "weight"),)

    def input_size(self, parameters: Parameters) -> int:
        return int(matrix(parameters, self.names[0]).shape[0])

    def check(self, parameters: Parameters, width: int | None) -> int:
        return int(matrix(parameters, self.names[0]).shape[1])

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return {self.names[0]: rng.standard_normal((width, sizes[0]))}

    def forward(
        self, run: Pass, x: Input, state: RecurrentState
    ) -> tuple[Input, RecurrentState, Any]:
        assert isinstance(x, np.ndarray)
        weight = run.parameters[self.names[0]]
        if self.multiplied and len(weight) < x.size:
            return Gathered(weight, x), (), None
        return weight.take(x, axis=0), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: RecurrentState, need_dx: bool
    ) -> tuple[Array | None, RecurrentState]:
        size = len(run.parameters[self.names[0]])
        # Without a tape the output was `Gathered`, and dy is the gradient of the whole table.
        dweight = dy if tape is None else sum_by_index(tape.ravel(), rows(dy), size)
        run.gradients.add(self.names[0], dweight)
        return None, ()


class Weighted(Layer):
    """A layer with a `weight` and, if `bias` is True, a bias (O,): the base of two layers."""

    bias: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (join(self.name, "weight"),) + ((join(self.name, "bias"),) if self.bias else ())

    def weight_and_bias(self, parameters: Parameters) -> tuple[Array, Array | None]:
        """The weight, and the bias (O,) or None."""
        return parameters[self.names[0]], parameters[self.names[1]] if self.bias else None


class Linear(Weighted):
    """y = weight (x z) + bias, with weight (O, I), bias (O,) and the gates z (I,) of its input."""

    def __init__(self, name: str, bias: bool, reads: tuple[str, ...]) -> None:
        self.name, self.bias, self.reads = name, bias, reads

    def input_size(self, parameters: Parameters) -> int:
        return int(matrix(parameters, self.names[0]).shape[1])

    def check(self, parameters: Parameters, width: int | None) -> int:
        outputs, inputs = matrix(parameters, self.names[0]).shape
        expect(parameters, self.names[0], (outputs, inputs if width is None else width))
        for name in self.names[1:]:
            expect(parameters, name, (outputs,))
        return int(outputs)

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return uniform(rng, self.names, [(sizes[0], width), (sizes[0],)], width)

    def forward(
        self, run: Pass, x: Input, state: RecurrentState
    ) -> tuple[Array, RecurrentState, Any]:
        weight, bias = self.weight_and_bias(run.parameters)
        return product(x, weight, bias, run.gate(self.reads)), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: RecurrentState, need_dx: bool
    ) -> tuple[Array | None, RecurrentState]:
        read, dread = summed(tape, dy)
        run.add_matrix(self.names[0], dread.T @ read, self.reads)
        for name in self.names[1:]:
            run.gradients.add(name, rows(dy).sum(axis=0))
        if not need_dx:
            return None, ()
        weight = run.parameters[self.names[0]]
        return input_gradient(dread, weight, run.gate(self.reads), tape), ()


class Activation(Layer):
    """A function of `l0gate._vocabulary.ACTIVATIONS`."""

    def __init__(self, function: str, slope: float | None = None) -> None:
        self.function, self.slope = function, slope
        self.trains = function in DERIVATIVES
        self.compute = activation(function, slope)

    def check(self, parameters: Parameters, width: int | None) -> int | None:
        return width

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return {}

    def forward(
        self, run: Pass, x: Input, state: RecurrentState
    ) -> tuple[Array, RecurrentState, Any]:
        assert isinstance(x, np.ndarray)
        y = self.compute(x)
        return y, (), y

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: RecurrentState, need_dx: bool
    ) -> tuple[Array | None, RecurrentState]:
        return dy * DERIVATIVES[self.function](tape), ()


def matrix(parameters: Parameters, name: str) -> Array:
    """The parameter of that name, which must be a matrix."""
    array = find(parameters, name)
    if array.ndim != 2:
        raise L0GateError(f"parameter `{name}` has shape {array.shape}; it must be a matrix")
    return array


def expect(parameters: Parameters, name: str, shape: tuple[int, ...]) -> None:
    """Raise unless `parameters` has an array of this name and shape."""
    found = find(parameters, name).shape
    if found != shape:
        raise L0GateError(f"parameter `{name}` has shape {found}; expected {shape}")


def find(parameters: Parameters, name: str) -> Array:
    if name not in parameters:
        raise L0GateError(f"parameter `{name}` is missing")
    return parameters[name]


def uniform(
    rng: np.random.Generator, names: Sequence[str], shapes: Sequence[tuple[int, ...]], fan: int
) -> dict[str, Array]:
    """Arrays by name, with uniform random entries between -1/sqrt(fan) and 1/sqrt(fan).

    `names` may be shorter than `shapes`: a layer without biases has no names for the last shapes.
    """
    bound = 1 / math.sqrt(max(fan, 1))
    return {
        name: rng.uniform(-bound, bound, shape) for name, shape in zip(names, shapes, strict=False)
    }
