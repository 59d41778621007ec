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
from typing import Any, ClassVar

import numpy as np
from l0gate.reference import _cells
from l0gate.reference._cells import Array, Tape, previous_states, sigmoid

from l0gate._errors import check

Parameters = Mapping[str, Array]
State = tuple[Any, ...]  # per layer and direction: (h, c) for an LSTM, h for a GRU


@dataclass(frozen=True)
class Gathered:
    """The activations table[index] (T, B, features), not yet written out."""

    table: Array
    index: Array


Input = Array | Gathered


class Gradients(dict[str, Array]):
    """Gradients by name; a name that is added twice holds the sum."""

    def add(self, name: str, gradient: Array) -> None:
        self[name] = self[name] + gradient if name in self else gradient


@dataclass(frozen=True)
class Pass:
    """What one pass through a net has in common for all layers."""

    parameters: Parameters
    dtype: np.dtype[Any]
    axes: Mapping[str, int]  # their sizes
    scans: ModuleType  # `_cells` or `_jit`
    # Without a tape: weights by name as the scans have packed them. None for a pass with a tape.
    packed: dict[str, Any] | None = None
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


class Layer:
    """What a net asks of a layer; `reads` names the axes of its input, `names` its parameters."""

    name: str
    reads: tuple[str, ...]
    directions: tuple[Direction, ...]
    states: int  # arrays in the state of a direction

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
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool = True
    ) -> tuple[Array | None, State]:
        """Add the parameters' and gates' gradients to `run`; returns dx and the state's one.

        dx has the shape of x, or of its table where x is `Gathered`.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Embedding(Layer):
    """Row x of `weight` (V, E) for every token x; a matrix reads the rows if `multiplied`."""

    name: str
    multiplied: bool
    reads = ()
    directions = ()
    states = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (_join(self.name, "weight"),)

    def check(self, parameters: Parameters, width: int | None) -> int:
        return int(_matrix(parameters, self.names[0]).shape[1])

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return {self.names[0]: rng.standard_normal((width, sizes[0]))}

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Input, State, Any]:
        assert isinstance(x, np.ndarray)
        weight = run.parameters[self.names[0]]
        if self.multiplied and len(weight) < x.size:
            return Gathered(weight, x), (), None
        return weight.take(x, axis=0), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool = True
    ) -> tuple[Array | None, State]:
        size = len(run.parameters[self.names[0]])
        dweight = dy if tape is None else _scatter(tape.ravel(), _rows(dy), size)
        run.gradients.add(self.names[0], dweight)
        return None, ()


@dataclass(frozen=True)
class Linear(Layer):
    """y = weight (x z) + bias, with weight (O, I)."""

    name: str
    bias: bool
    reads: tuple[str, ...]
    directions = ()
    states = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (_join(self.name, "weight"),) + ((_join(self.name, "bias"),) if self.bias else ())

    def check(self, parameters: Parameters, width: int | None) -> int:
        outputs, inputs = _matrix(parameters, self.names[0]).shape
        _expect(parameters, self.names[0], (outputs, inputs if width is None else width))
        for name in self.names[1:]:
            _expect(parameters, name, (outputs,))
        return int(outputs)

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        return _uniform(rng, self.names, [(sizes[0], width), (sizes[0],)], width)

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Array, State, Any]:
        weight = run.parameters[self.names[0]]
        bias = run.parameters[self.names[1]] if self.bias else None
        return _product(x, weight, bias, run.gate(self.reads)), (), x

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool = True
    ) -> tuple[Array | None, State]:
        read, dread = _summed(tape, dy)
        run.add_matrix(self.names[0], dread.T @ read, self.reads)
        for name in self.names[1:]:
            run.gradients.add(name, _rows(dy).sum(axis=0))
        if not need_dx:
            return None, ()
        weight = run.parameters[self.names[0]]
        return _input_gradient(dread, weight, run.gate(self.reads), tape), ()


# function -> (itself, its derivative as a function of its output)
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0).astype(y.dtype)),
}


@dataclass(frozen=True)
class Activation(Layer):
    """An elementwise function, a key of `ACTIVATIONS`."""

    function: str
    name = ""
    reads = ()
    directions = ()
    states = 0

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
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool = True
    ) -> tuple[Array | None, State]:
        return dy * ACTIVATIONS[self.function][1](tape), ()


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent layer; `axis` names its hidden neurons."""

    layer: str
    suffix: str
    bias: bool
    axis: str
    reverse: bool

    @property
    def weights(self) -> tuple[str, str]:
        return _join(self.layer, f"weight_ih_{self.suffix}"), _join(
            self.layer, f"weight_hh_{self.suffix}"
        )

    @property
    def biases(self) -> tuple[str, ...]:
        names = (
            _join(self.layer, f"bias_ih_{self.suffix}"),
            _join(self.layer, f"bias_hh_{self.suffix}"),
        )
        return names if self.bias else ()


@dataclass(frozen=True)
class Recurrent(Layer):
    """One layer of an LSTM or GRU in one or both directions, their outputs concatenated."""

    name: str
    directions: tuple[Direction, ...]
    reads: tuple[str, ...]

    blocks: ClassVar[int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            name for direction in self.directions for name in direction.weights + direction.biases
        )

    def check(self, parameters: Parameters, width: int | None) -> int:
        total = 0
        for direction in self.directions:
            weight_ih, weight_hh = direction.weights
            if width is None:
                width = _matrix(parameters, weight_ih).shape[1]
            hidden = _matrix(parameters, weight_hh).shape[1]
            _expect(parameters, weight_hh, (self.blocks * hidden, hidden))
            _expect(parameters, weight_ih, (self.blocks * hidden, width))
            for name in direction.biases:
                _expect(parameters, name, (self.blocks * hidden,))
            total += hidden
        return total

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        parameters: dict[str, Array] = {}
        for direction, hidden in zip(self.directions, sizes, strict=True):
            rows = self.blocks * hidden
            shapes = [(rows, width), (rows, hidden), (rows,), (rows,)]
            parameters |= _uniform(rng, direction.weights + direction.biases, shapes, hidden)
        return parameters

    def forward(self, run: Pass, x: Input, state: State) -> tuple[Array, State, Any]:
        runs = [
            self._scan(run, direction, x, initial)
            for direction, initial in zip(self.directions, state, strict=True)
        ]
        outputs, states, tapes = zip(*runs, strict=True)
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=2)
        return y, states, (x, state, outputs, tapes)

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: State, need_dx: bool = True
    ) -> tuple[Array | None, State]:
        x, state, outputs, tapes = tape
        ends = np.cumsum([y.shape[2] for y in outputs])[:-1]
        dys = np.split(dy, ends, axis=2)
        dx: Array | None = None
        dstate0 = []
        for d, direction in enumerate(self.directions):
            weight_ih, weight_hh = direction.weights
            dgx, dgh, initial = self._scan_backward(
                run, direction, dys[d], dstate[d], outputs[d], state[d], tapes[d]
            )
            dstate0.append(initial)
            recurrent = self._recurrent_product(run, direction, dgh, outputs[d], state[d], tapes[d])
            read, dread = _summed(x, dgx)
            run.add_matrix(weight_ih, dread.T @ read, self.reads)
            run.add_matrix(weight_hh, recurrent, (direction.axis,))
            if direction.bias:
                dbias = _rows(dgx).sum(axis=0)
                same = dgh is dgx
                run.gradients.add(direction.biases[0], dbias)
                run.gradients.add(
                    direction.biases[1], dbias.copy() if same else _rows(dgh).sum(axis=0)
                )
            if need_dx:
                part = _input_gradient(dread, run.parameters[weight_ih], run.gate(self.reads), x)
                dx = part if dx is None else dx + part
        return dx, tuple(dstate0)

    def _scan(
        self, run: Pass, direction: Direction, x: Input, initial: Any
    ) -> tuple[Array, Any, Tape]:
        raise NotImplementedError

    def _scan_backward(
        self,
        run: Pass,
        direction: Direction,
        dy: Array,
        dlast: Any,
        y: Array,
        initial: Any,
        tape: Tape,
    ) -> tuple[Array, Array, Any]:
        raise NotImplementedError

    def _recurrent_product(
        self, run: Pass, direction: Direction, dgh: Array, y: Array, initial: Any, tape: Tape
    ) -> Array:
        """The sum over time and batch of dgh^T times what `weight_hh` reads."""
        raise NotImplementedError


class LSTM(Recurrent):
    """One layer of an LSTM; the state of a direction is (h, c)."""

    blocks = 4
    states = 2

    def _scan(
        self, run: Pass, direction: Direction, x: Input, initial: Any
    ) -> tuple[Array, Any, Tape]:
        weight_hh, options = _read_hidden(run, direction)
        gx = _product(
            x,
            run.parameters[direction.weights[0]],
            lstm_bias(run.parameters, direction),
            run.gate(self.reads),
        )
        if run.packed is not None and run.scans is not _cells:
            name = direction.weights[1]
            if name not in run.packed:
                run.packed[name] = run.scans.pack(weight_hh.T)
            y, h, c = run.scans.lstm_inference(gx, run.packed[name], *initial, **options)
            return y, (h, c), ()
        y, h, c, tape = run.scans.lstm_scan(gx, weight_hh, *initial, **options)
        return y, (h, c), tape

    def _scan_backward(
        self,
        run: Pass,
        direction: Direction,
        dy: Array,
        dlast: Any,
        y: Array,
        initial: Any,
        tape: Tape,
    ) -> tuple[Array, Array, Any]:
        weight_hh, options = _read_hidden(run, direction)
        dgx, dh0, dc0 = run.scans.lstm_scan_backward(
            dy, *dlast, weight_hh, y, *initial, tape, **options
        )
        return dgx, dgx, (dh0, dc0)

    def _recurrent_product(
        self, run: Pass, direction: Direction, dgh: Array, y: Array, initial: Any, tape: Tape
    ) -> Array:
        h_prev = previous_states(y, initial[0], run.lengths, direction.reverse)
        product: Array = _rows(dgh).T @ _rows(h_prev)
        return product


@dataclass(frozen=True)
class GRU(Recurrent):
    """One layer of a GRU; the state of a direction is h."""

    reset_after: bool

    blocks = 3
    states = 1

    def _scan(
        self, run: Pass, direction: Direction, x: Input, initial: Any
    ) -> tuple[Array, Any, Tape]:
        weight_hh, options = _read_hidden(run, direction)
        bias, bias_hn = gru_bias(run.parameters, direction, self.reset_after)
        gx = _product(x, run.parameters[direction.weights[0]], bias, run.gate(self.reads))
        given = bias_hn, initial, self.reset_after
        if run.packed is not None and run.scans is not _cells:
            name = direction.weights[1]
            if name not in run.packed:
                run.packed[name] = run.scans.pack_gru(weight_hh)
            y, h = run.scans.gru_inference(gx, run.packed[name], *given, **options)
            return y, h, ()
        y, h, tape = run.scans.gru_scan(gx, weight_hh, *given, **options)
        return y, h, tape

    def _scan_backward(
        self,
        run: Pass,
        direction: Direction,
        dy: Array,
        dlast: Any,
        y: Array,
        initial: Any,
        tape: Tape,
    ) -> tuple[Array, Array, Any]:
        weight_hh, options = _read_hidden(run, direction)
        _, bias_hn = gru_bias(run.parameters, direction, self.reset_after)
        dgx, dgh, dh0 = run.scans.gru_scan_backward(
            dy, dlast, weight_hh, bias_hn, y, initial, tape, self.reset_after, **options
        )
        return dgx, dgh, dh0

    def _recurrent_product(
        self, run: Pass, direction: Direction, dgh: Array, y: Array, initial: Any, tape: Tape
    ) -> Array:
        h_prev = previous_states(y, initial, run.lengths, direction.reverse)
        rows, hidden = _rows(dgh), y.shape[2]
        product: Array
        if self.reset_after:
            product = rows.T @ _rows(h_prev)
            return product
        reset = tape[0][..., :hidden] * h_prev
        product = np.empty((3 * hidden, hidden), dgh.dtype)
        np.matmul(rows[:, : 2 * hidden].T, _rows(h_prev), out=product[: 2 * hidden])
        np.matmul(rows[:, 2 * hidden :].T, _rows(reset), out=product[2 * hidden :])
        return product


def lstm_bias(parameters: Parameters, direction: Direction) -> Array | None:
    """The bias of the input pre-activations, (4H,)."""
    if not direction.bias:
        return None
    bias_ih, bias_hh = (parameters[name] for name in direction.biases)
    return bias_ih + bias_hh


def gru_bias(
    parameters: Parameters, direction: Direction, reset_after: bool
) -> tuple[Array | None, Array]:
    """The bias of the input pre-activations (3H,), and the one that r multiplies (H,)."""
    weight_hh = parameters[direction.weights[1]]
    hidden = weight_hh.shape[1]
    if not direction.bias:
        return None, np.zeros(hidden, weight_hh.dtype)
    bias_ih, bias_hh = (parameters[name] for name in direction.biases)
    bias = bias_ih + bias_hh
    if reset_after:
        bias[2 * hidden :] = bias_ih[2 * hidden :]
    return bias, bias_hh[2 * hidden :]


def _read_hidden(run: Pass, direction: Direction) -> tuple[Array, dict[str, Any]]:
    """`weight_hh` and the options of the scan. Only the plain scans gate explicitly."""
    weight_hh, gate = run.parameters[direction.weights[1]], run.gate((direction.axis,))
    options: dict[str, Any] = {"lengths": run.lengths, "reverse": direction.reverse}
    if run.scans is _cells:
        return weight_hh, options | {"gate": gate}
    return weight_hh if gate is None else weight_hh * gate, options


def _rows(x: Array) -> Array:
    """All positions of (T, B, features) as the rows of a matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _product(x: Input, weight: Array, bias: Array | None, z: Array | None) -> Array:
    """weight (x z) + bias, of shape (T, B, O)."""
    read = x.table if isinstance(x, Gathered) else _rows(x)
    y: Array = (read if z is None else read * z) @ weight.T
    if bias is not None:
        y += bias
    if isinstance(x, Gathered):
        return y.take(x.index, axis=0)
    return y.reshape(*x.shape[:-1], len(weight))


def _summed(x: Input, dy: Array) -> tuple[Array, Array]:
    """Rows of x and of dy whose products sum to the sum over all positions of dy^T x."""
    if isinstance(x, Gathered):
        return x.table, _scatter(x.index.ravel(), _rows(dy), len(x.table))
    return _rows(x), _rows(dy)


def _input_gradient(dread: Array, weight: Array, z: Array | None, x: Input) -> Array:
    """The gradient of x, or of its table, from that of the rows that `_summed` gave."""
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


def _join(name: str, parameter: str) -> str:
    return f"{name}.{parameter}" if name else parameter


def _matrix(parameters: Parameters, name: str) -> Array:
    check(name in parameters, f"parameter `{name}` is missing")
    array = parameters[name]
    check(array.ndim == 2, f"parameter `{name}` has shape {array.shape}; it must be a matrix")
    return array


def _expect(parameters: Parameters, name: str, shape: tuple[int, ...]) -> None:
    check(name in parameters, f"parameter `{name}` is missing")
    found = parameters[name].shape
    check(found == shape, f"parameter `{name}` has shape {found}; expected {shape}")


def _uniform(
    rng: np.random.Generator, names: Sequence[str], shapes: Sequence[tuple[int, ...]], fan: int
) -> dict[str, Array]:
    """Uniform within 1/sqrt(fan) of 0; `names` may leave out the biases at the end."""
    bound = 1 / math.sqrt(max(fan, 1))
    return {
        name: rng.uniform(-bound, bound, shape) for name, shape in zip(names, shapes, strict=False)
    }
