"""How a bound net runs: one step layer by layer in NumPy, or anything as one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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


class Flat(tuple[Any, ...]):
    """A state whose arrays lie one after the other in `flat`, as the program wants them."""

    flat: Array
    batch: tuple[int, ...]
    made_by: Compiled

    def fits(self, net: Compiled, batch: tuple[int, ...]) -> bool:
        """Whether the state comes from the same net, with the same batch."""
        return self.made_by is net and self.batch == batch

    def __reduce__(self) -> tuple[type, tuple[tuple[Any, ...]]]:
        return tuple, (tuple(self),)  # a copy is a plain tuple


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

    def __call__(self, x: Array, state: State | None, lengths: Array | None) -> tuple[Array, Flat]:
        """x (T, B) tokens or (T, B, I), and the state of a batch."""
        if self._rows is not None:
            x = self._rows.take(x, axis=0)
        y, flat = self._program(x, self._flatten(state, x.shape[1]), lengths)
        return y, self._entries(flat, x.shape[1:2])

    def step(self, x: Array, state: State | None) -> tuple[Array, Flat]:
        """x () token or (I,), or with a batch (B,) or (B, I), and a state without or with it."""
        if self._rows is not None:
            x = self._rows.take(x, axis=0)
        batch = x.shape[:-1]
        x = x[None, None] if x.ndim == 1 else x[None]
        y, flat = self._program(x, self._flatten(state, x.shape[1]))
        return (y[0] if batch else y[0, 0]), self._entries(flat, batch)

    def _flatten(self, state: State | None, batch: int) -> Array:
        if type(state) is Flat:
            return state.flat
        if state is None:
            return np.zeros(batch * self._program.state_size, self._program.dtype)
        arrays = [
            part.ravel()
            for entry, pair in zip(state, self._pairs, strict=True)
            for part in (entry if pair else [entry])
        ]
        return np.concatenate([np.empty(0, self._program.dtype), *arrays])

    def _entries(self, flat: Array, batch: tuple[int, ...]) -> Flat:
        arrays, start = [], 0
        for size in self._program.state_sizes:
            end = start + size * (batch[0] if batch else 1)
            part = flat[start:end]
            arrays.append(part.reshape(*batch, size) if batch else part)
            start = end
        rest = iter(arrays)
        state = Flat([(next(rest), next(rest)) if pair else next(rest) for pair in self._pairs])
        state.flat, state.batch, state.made_by = flat, batch, self
        return state


def _described(layer: Layer, parameters: Parameters) -> list[tuple[Any, ...]]:
    """The directions of a layer as the program is told of them."""
    if isinstance(layer, Activation):
        return [(layer.function, False)]
    if isinstance(layer, Linear):
        return [("linear", False, *_linear_parameters(layer, parameters))]
    ends = []
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
    weight = np.ascontiguousarray(np.concatenate((weight_ih, weight_hh), axis=1).T * scale)
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
