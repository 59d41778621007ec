"""One time step of a net, layer by layer in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from l0gate.reference._layers import (
    ACTIVATIONS,
    Activation,
    Embedding,
    Layer,
    Linear,
    Parameters,
    RecurrentState,
)
from l0gate.reference._recurrent import GRU, LSTM, gru_bias, lstm_bias
from l0gate.reference._scan import Array, sigmoid

# (x, state) -> (y, new state), both in new memory. x is a token () or features (I,), and the arrays
# of the state are (H,); for a batch, all of them have a first dimension B.
Step = Callable[[Array, RecurrentState], tuple[Array, RecurrentState]]


def numpy_step(chain: Sequence[Layer], parameters: Parameters) -> Step:
    """The function that runs one step of the net. The parameters are prepared here, once."""
    makers: dict[type[Layer], Callable[[Layer, Parameters], Step]] = {
        Embedding: _embedding_step,
        Activation: _activation_step,
        Linear: _linear_step,
        LSTM: _lstm_step,
        GRU: _gru_step,
    }
    steps = [(makers[type(layer)](layer, parameters), len(layer.directions)) for layer in chain]

    def step(x: Array, state: RecurrentState) -> tuple[Array, RecurrentState]:
        new_state: RecurrentState = ()
        for layer_step, entries in steps:
            x, own = layer_step(x, state[:entries])
            state, new_state = state[entries:], new_state + own
        # The output of a recurrent layer is also its state, which the caller must not change.
        return (x.copy() if chain[-1].directions else x), new_state

    return step


def _embedding_step(layer: Layer, parameters: Parameters) -> Step:
    weight = parameters[layer.names[0]]
    return lambda x, state: (weight.take(x, axis=0), ())


def _activation_step(layer: Layer, parameters: Parameters) -> Step:
    assert isinstance(layer, Activation)
    function = ACTIVATIONS[layer.function][0]
    return lambda x, state: (function(x), ())


def _linear_step(layer: Layer, parameters: Parameters) -> Step:
    assert isinstance(layer, Linear)
    weight, bias = layer.weight_and_bias(parameters)
    weight = np.ascontiguousarray(weight).T
    if bias is None:
        return lambda x, state: (x @ weight, ())
    return lambda x, state: (x @ weight + bias, ())


def _lstm_step(layer: Layer, parameters: Parameters) -> Step:
    """The function that runs one step of an LSTM layer.

    Since sigmoid(a) = (tanh(a / 2) + 1) / 2, one call of tanh computes all four gates.
    """
    (end,) = layer.directions
    # Not copied to C order: that would take as long as reading the file of a saved net.
    weight_ih, weight_hh = parameters[end.weight_ih].T, parameters[end.weight_hh].T
    hidden, dtype = weight_hh.shape[0], weight_hh.dtype
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype), hidden)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], dtype), hidden)
    bias = lstm_bias(parameters, end)

    def step(x: Array, state: RecurrentState) -> tuple[Array, RecurrentState]:
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

    def step(x: Array, state: RecurrentState) -> tuple[Array, RecurrentState]:
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
