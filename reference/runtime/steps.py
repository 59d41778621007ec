"""How a bound net runs: one step layer by layer in NumPy, or anything as one compiled call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from l0gate.reference._cells import Array, sigmoid
from l0gate.reference._layers import (
    ACTIVATIONS,
    Activation,
    Embedding,
    Layer,
    Linear,
    Parameters,
    State,
)
from l0gate.reference._recurrent import GRU, LSTM, gru_bias, lstm_bias

# (x, state) -> (y, new state), in new memory. x holds tokens or features, with or without a batch.
Step = Callable[[Array, State], tuple[Array, State]]


def plain_step(chain: Sequence[Layer], parameters: Parameters) -> Step:
    """A step in NumPy, from parameters packed here."""
    makers: dict[type[Layer], Callable[[Layer, Parameters], Step]] = {
        Embedding: _embedding_step,
        Activation: _activation_step,
        Linear: _linear_step,
        LSTM: _lstm_step,
        GRU: _gru_step,
    }
    steps = [(makers[type(layer)](layer, parameters), len(layer.directions)) for layer in chain]

    def step(x: Array, state: State) -> tuple[Array, State]:
        new_state: State = ()
        for layer_step, entries in steps:
            x, own = layer_step(x, state[:entries])
            state, new_state = state[entries:], new_state + own
        # The output of a recurrent layer is also its state, which must not change with it.
        return (x.copy() if chain[-1].directions else x), new_state

    return step


_Entries = Callable[[Array], Iterable[Any]]  # the entries of a state, from a result


class Flat(tuple[Any, ...]):
    """A state that a compiled net made, whose entries lie one after the other in one array.

    Each net has classes of its own, one for each size of the batch, which say where states belong.
    Whoever calls one, to make a state like another, gets a plain tuple, and so does a copy.
    """

    net: ClassVar[Compiled]
    batch: ClassVar[int | None]  # None for a single sequence without this dimension

    def __new__(cls, entries: Iterable[Any] = ()) -> Any:
        return tuple(entries)

    @property
    def flat(self) -> Array:
        """The array that begins with the entries."""
        h: Any = self[0] if isinstance(self[0], np.ndarray) else self[0][0]
        array: Array = h.base
        return array

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class Compiled:
    """Sequences and steps of a net as one compiled call each, from parameters packed here."""

    def __init__(
        self, chain: Sequence[Layer], parameters: Parameters, program: Any, exact: bool
    ) -> None:
        tokens = isinstance(chain[0], Embedding)
        layers = [_described(layer, parameters) for layer in chain[tokens:]]
        self._rows = np.ascontiguousarray(parameters[chain[0].names[0]]) if tokens else None
        self._program = program(layers, exact)
        self._pairs = [layer.states == 2 for layer in chain for _ in layer.directions]
        self._kinds: dict[int | None, tuple[type[Flat], _Entries]] = {}
        self._zeros = np.zeros(0, self._program.dtype)

    def __call__(self, x: Array, state: State | None, lengths: Array | None) -> tuple[Array, Flat]:
        """x (T, B) tokens or (T, B, I), and the state of a batch."""
        if self._rows is not None:
            x = self._rows.take(x, axis=0)
        batch = x.shape[1]
        flat = self._flat(state, batch)
        try:
            y, out = self._program(x, flat, lengths)
        except TypeError:  # it is not all in order
            y, out = self._program(np.array(x, order="C"), flat, lengths)
        return y, self.state(out, batch)

    def step(self, x: Array, state: State | None) -> tuple[Array, Flat]:
        """x () token or (I,), or with a batch (B,) or (B, I), and a state without or with it."""
        if x.ndim == (self._rows is None) + 1:
            y, new_state = self(x[None], state, None)
            return y[0], new_state
        if self._rows is not None:
            x = self._rows[x]
        flat = self._flat(state, 1)
        try:
            out = self._program.step(x, flat)
        except TypeError:
            out = self._program.step(np.array(x, order="C"), flat)
        return out[self._program.state_size :], self.state(out, None)

    def next_call(self) -> Callable[[Any, Any], tuple[Array, State] | None]:
        """A call for what short sequences give it all the time, or None for anything else.

        That is features (T, B, I), in order, and no state or one of this net's own. Everything that
        can be is looked up before.
        """
        program, kinds = self._program, self._kinds
        if self._rows is not None or not self._pairs:
            return lambda x, state: None
        run, address, below = program.bare_call()
        dtype = np.dtype(program.dtype.type)  # the object that arrays share
        inputs, outputs, size = program.input_size, program.output_size, program.state_size
        ndarray, empty, make, flat_of = np.ndarray, np.empty, tuple.__new__, self._flat

        def call(x: Any, state: Any) -> tuple[Array, State] | None:
            if type(x) is not ndarray or x.dtype is not dtype or x.ndim != 3:
                return None
            T, B, features = x.shape
            if features != inputs or below <= T * B:
                return None
            kind, entries = kinds.get(B) or self.kind(B)
            if state is not None and type(state) is not kind:
                return None
            y, out = empty((T, B, outputs), dtype), empty(B * size, dtype)
            if not run(0, B, T, B, address, 0, x, flat_of(state, B), out, y):
                return None
            return y, make(kind, entries(out))

        return call

    def next_step(self) -> Callable[[Any, Any], tuple[Array, State] | None]:
        """`step` for what a stream gives it all the time, or None for anything else.

        That is a token, or features (I,), and a state without a batch of this net's own.
        """
        program, rows = self._program, self._rows
        if not self._pairs:
            return lambda x_t, state: None
        kind, entries = self.kind(None)
        (run, split, address), size = program.bare_step(), program.step_size
        dtype = np.dtype(program.dtype.type)
        shape, y = (program.input_size,), slice(program.state_size, None)
        tokens = 0 if rows is None else len(rows)
        ndarray, empty, make, whole = np.ndarray, np.empty, tuple.__new__, (int, np.int64)

        def step(x_t: Any, state: Any) -> tuple[Array, State] | None:
            if type(state) is not kind:
                return None
            if rows is not None:
                if type(x_t) not in whole or not 0 <= x_t < tokens:
                    return None
                x_t = rows[x_t]
            elif type(x_t) is not ndarray or x_t.dtype is not dtype or x_t.shape != shape:
                return None
            out, first = empty(size, dtype), state[0]
            if not run(
                split, address, x_t, (first if type(first) is ndarray else first[0]).base, out
            ):
                return None
            return out[y], make(kind, entries(out))

        return step

    def in_place(
        self, state: State | None, kept: tuple[Array, int] | None
    ) -> tuple[Array, Callable[[Any], Array | None], Callable[[Array], Array]]:
        """Memory that begins with a copy of one sequence's state, and two calls that change it.

        Each takes x_t and gives y_t. The first gives None, without a change, for anything but what
        `next_step` takes; the second takes any x () token or (I,) that has been checked. `kept`:
        the features read of those that are given to the first, and how many these are.
        """
        program, rows = self._program, self._rows
        size, dtype = program.state_size, np.dtype(program.dtype.type)
        place = np.zeros(program.place_size, dtype)
        place[:size] = self._flat(state, 1)[:size]
        run, where, held = program.bare_in_place(place)
        y_t = place[size : program.step_size]
        index, features = kept or (None, 0)
        tokens = 0 if rows is None else len(rows)
        ndarray, whole = np.ndarray, (int, np.int64)
        copy: Callable[[], Array] = y_t.copy

        def step(x_t: Any, _held: Any = held) -> Array | None:
            if rows is not None:
                if type(x_t) not in whole or not 0 <= x_t < tokens:
                    return None
                x_t = rows[x_t]
            elif type(x_t) is not ndarray or x_t.dtype is not dtype or x_t.ndim != 1:
                return None
            elif index is not None:
                if len(x_t) != features:
                    return None
                x_t = x_t.take(index)
            return copy() if run(where, x_t) else None

        def checked_step(x: Array, _held: Any = held) -> Array:
            done = run(where, np.array(x if rows is None else rows[x], order="C"))
            assert done
            return copy()

        return place, step, checked_step

    def state_of(self, place: Array) -> Flat:
        """A copy of the state that begins the memory from `in_place`."""
        return self.state(place[: self._program.state_size].copy(), None)

    def _flat(self, state: State | None, batch: int) -> Array:
        if isinstance(state, Flat) and state:
            return state.flat
        if state is None:
            zeros, size = self._zeros, batch * self._program.state_size
            if len(zeros) != size:
                self._zeros = zeros = np.zeros(size, self._program.dtype)
            return zeros
        arrays: list[Array] = []
        for entry, pair in zip(state, self._pairs, strict=True):
            arrays += entry if pair else [entry]
        return np.concatenate([array.ravel() for array in arrays]) if arrays else self._zeros[:0]

    def state(self, out: Array, batch: int | None) -> Flat:
        """The state that a program's result begins with, without a batch or with one."""
        kind, entries = self.kind(batch)
        return tuple.__new__(kind, entries(out))

    def kind(self, batch: int | None) -> tuple[type[Flat], _Entries]:
        """The class of states with so many sequences, and what takes their entries."""
        found = self._kinds.get(batch)
        if found is None:
            kind = type("Flat", (Flat,), {"net": self, "batch": batch})
            found = self._kinds[batch] = kind, self._entries(batch)
        return found

    def _entries(self, batch: int | None) -> _Entries:
        takers: list[Callable[[Array], Any]] = []
        start, sizes = 0, iter(self._program.state_sizes)
        for pair in self._pairs:
            shape = (next(sizes),) if batch is None else (batch, next(sizes))
            if pair:
                next(sizes)
            takers.append(_taker(start, shape, pair))
            start += math.prod(shape) * (2 if pair else 1)
        if len(takers) == 1:
            (take,) = takers
            return lambda out: (take(out),)
        return lambda out: [take(out) for take in takers]


def _taker(start: int, shape: tuple[int, ...], pair: bool) -> Callable[[Array], Any]:
    """What takes h, or (h, c), from a program's result."""
    size = math.prod(shape)
    h, c = slice(start, start + size), slice(start + size, start + 2 * size)
    if len(shape) == 1:
        return itemgetter(h, c) if pair else itemgetter(h)
    if not pair:
        return lambda out: out[h].reshape(shape)
    both, shapes, each = slice(start, start + 2 * size), (2, *shape), itemgetter(0, 1)
    return lambda out: each(out[both].reshape(shapes))


def _described(layer: Layer, parameters: Parameters) -> list[tuple[Any, ...]]:
    """The directions of a layer as the program is told of them."""
    if isinstance(layer, Activation):
        return [(layer.function, False)]
    if isinstance(layer, Linear):
        return [("linear", False, *_linear_parameters(layer, parameters))]
    ends: list[tuple[Any, ...]] = []
    for end in layer.directions:
        weights = end.reverse, parameters[end.weight_ih], parameters[end.weight_hh]
        if isinstance(layer, GRU):
            biases = gru_bias(parameters, end, layer.reset_after)
            ends.append(("gru", *weights, *biases, layer.reset_after))
        else:
            ends.append(("lstm", *weights, lstm_bias(parameters, end)))
    return ends


def _linear_parameters(layer: Layer, parameters: Parameters) -> tuple[Array, Array | None]:
    weight, *bias = (parameters[name] for name in layer.names)
    return weight, bias[0] if bias else None


def _embedding_step(layer: Layer, parameters: Parameters) -> Step:
    weight = parameters[layer.names[0]]
    return lambda x, state: (weight.take(x, axis=0), ())


def _activation_step(layer: Layer, parameters: Parameters) -> Step:
    assert isinstance(layer, Activation)
    function = ACTIVATIONS[layer.function][0]
    return lambda x, state: (function(x), ())


def _linear_step(layer: Layer, parameters: Parameters) -> Step:
    weight, bias = _linear_parameters(layer, parameters)
    weight = np.ascontiguousarray(weight).T
    if bias is None:
        return lambda x, state: (x @ weight, ())
    return lambda x, state: (x @ weight + bias, ())


def _lstm_step(layer: Layer, parameters: Parameters) -> Step:
    """As sigmoid(a) = (tanh(a / 2) + 1) / 2, one tanh serves all four blocks."""
    (end,) = layer.directions
    # In memory as they were: to copy them would take as long as to read the file.
    weight_ih, weight_hh = parameters[end.weight_ih].T, parameters[end.weight_hh].T
    hidden, dtype = weight_hh.shape[0], weight_hh.dtype
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype), hidden)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], dtype), hidden)
    bias = lstm_bias(parameters, end)

    def step(x: Array, state: State) -> tuple[Array, State]:
        ((h, c),) = state
        gates = x @ weight_ih
        gates += h @ weight_hh
        if bias is not None:
            gates += bias
        gates *= scale
        np.tanh(gates, out=gates)
        gates *= scale
        gates += shift
        i, f = gates[..., :hidden], gates[..., hidden : 2 * hidden]
        g, o = gates[..., 2 * hidden : 3 * hidden], gates[..., 3 * hidden :]
        c = f * c + i * g
        h = o * np.tanh(c)
        return h, ((h, c),)

    return step


def _gru_step(layer: Layer, parameters: Parameters) -> Step:
    assert isinstance(layer, GRU)
    (end,) = layer.directions
    weight_ih, weight_hh = (
        np.ascontiguousarray(parameters[name]).T for name in (end.weight_ih, end.weight_hh)
    )
    hidden = weight_hh.shape[0]
    weight_rz, weight_n = weight_hh[:, : 2 * hidden], weight_hh[:, 2 * hidden :]
    bias, bias_hn = gru_bias(parameters, end, layer.reset_after)
    reset_after = layer.reset_after

    def step(x: Array, state: State) -> tuple[Array, State]:
        (h,) = state
        gx = x @ weight_ih
        if bias is not None:
            gx += bias
        gh = h @ (weight_hh if reset_after else weight_rz)
        rz = sigmoid(gx[..., : 2 * hidden] + gh[..., : 2 * hidden])
        r, z = rz[..., :hidden], rz[..., hidden:]
        hn = r * (gh[..., 2 * hidden :] + bias_hn) if reset_after else (r * h) @ weight_n
        n = np.tanh(gx[..., 2 * hidden :] + hn)
        h = n + z * (h - n)
        return h, (h,)

    return step
