"""How a bound net runs: one step layer by layer in NumPy, or anything as one compiled call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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


_Place = tuple[slice, slice | None, tuple[int, ...]]


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
        self._rows = parameters[chain[0].names[0]] if tokens else None
        self._program = program(layers, exact)
        self._pairs = [layer.states == 2 for layer in chain for _ in layer.directions]
        self._kinds: dict[int | None, tuple[type[Flat], list[_Place]]] = {}
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
        return y, self._state(out, batch)

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
        return out[self._program.state_size :], self._state(out, None)

    def next_step(self) -> Callable[[Any, Any], tuple[Array, State] | None]:
        """`step` for what a stream gives it all the time, or None for anything else.

        That is features (I,) and a state without a batch of this net's own. Everything that can be
        is looked up before.
        """
        program, (kind, places) = self._program, self.kind(None)
        if self._rows is not None or not places:
            return lambda x_t, state: None
        (run, split, address), size = program.bare_step(), program.step_size
        dtype = np.dtype(program.dtype.type)  # the object that arrays share
        shape, y = (program.input_size,), slice(program.state_size, None)
        (first, cell, _), *others = places
        ndarray, empty, make = np.ndarray, np.empty, tuple.__new__

        def step(x_t: Any, state: Any) -> tuple[Array, State] | None:
            if type(state) is not kind or type(x_t) is not ndarray:
                return None
            if x_t.dtype is not dtype or x_t.shape != shape:
                return None
            out = empty(size, dtype)
            if not run(split, address, x_t, (state[0] if cell is None else state[0][0]).base, out):
                return None
            entry = out[first] if cell is None else (out[first], out[cell])
            if others:
                rest = [out[h] if c is None else (out[h], out[c]) for h, c, _ in others]
                return out[y], make(kind, (entry, *rest))
            return out[y], make(kind, (entry,))

        return step

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

    def _state(self, out: Array, batch: int | None) -> Flat:
        """The state that a program's result begins with, without a batch or with one."""
        kind, places = self.kind(batch)
        entries = [
            out[h].reshape(shape) if c is None else (out[h].reshape(shape), out[c].reshape(shape))
            for h, c, shape in places
        ]
        return tuple.__new__(kind, entries)

    def kind(self, batch: int | None) -> tuple[type[Flat], list[_Place]]:
        """The class of states with so many sequences, and where their entries are."""
        found = self._kinds.get(batch)
        if found is None:
            kind = type("Flat", (Flat,), {"net": self, "batch": batch})
            found = self._kinds[batch] = kind, self._find_places(batch)
        return found

    def _find_places(self, batch: int | None) -> list[_Place]:
        """Where each entry of the state has its h and c, and their shape."""
        places: list[_Place] = []
        start, sizes = 0, iter(self._program.state_sizes)
        for pair in self._pairs:
            shape = (next(sizes),) if batch is None else (batch, next(sizes))
            end = start + math.prod(shape)
            h, c = slice(start, end), slice(end, 2 * end - start) if pair else None
            if pair:
                next(sizes)
            places.append((h, c, shape))
            start = h.stop if c is None else c.stop
        return places


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
    weight = np.ascontiguousarray(weight.T)
    if bias is None:
        return lambda x, state: (x @ weight, ())
    return lambda x, state: (x @ weight + bias, ())


def _lstm_step(layer: Layer, parameters: Parameters) -> Step:
    """[W_ih W_hh] [x; h] is one product. As sigmoid(a) = (tanh(a / 2) + 1) / 2, rows scaled once
    let a single tanh serve all four blocks."""
    (end,) = layer.directions
    weight_ih, weight_hh = parameters[end.weight_ih], parameters[end.weight_hh]
    hidden, dtype = weight_hh.shape[1], weight_hh.dtype
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype), hidden)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], dtype), hidden)
    inputs = weight_ih.shape[1]
    weight = np.empty((inputs + hidden, 4 * hidden), dtype)
    np.multiply(weight_ih.T, scale, out=weight[:inputs])
    np.multiply(weight_hh.T, scale, out=weight[inputs:])
    bias = lstm_bias(parameters, end)
    bias = np.zeros(4 * hidden, dtype) if bias is None else bias * scale

    def step(x: Array, state: State) -> tuple[Array, State]:
        ((h, c),) = state
        gates = np.concatenate((x, h), axis=-1) @ weight
        gates += bias
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
    weight_ih, weight_hh = parameters[end.weight_ih].T, parameters[end.weight_hh].T
    hidden = weight_hh.shape[0]
    weight_rz, weight_n = weight_hh[:, : 2 * hidden], weight_hh[:, 2 * hidden :]
    weight_ih, weight_hh, weight_rz, weight_n = map(
        np.ascontiguousarray, (weight_ih, weight_hh, weight_rz, weight_n)
    )
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
