"""One time step of a net, layer by layer in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0gate.reference._engine import NUMPY
from l0gate.reference._layers import (
    Activation,
    Embedding,
    Layer,
    Linear,
    Parameters,
    Pass,
    RecurrentState,
    read_later,
)
from l0gate.reference._recurrent import GRU, LSTM, gru_bias, summed_bias
from l0gate.reference._scan import Array, sigmoid

# (x, state) -> (y, new state), both in new memory. x is a token () or features (I,), and the arrays
# of the state are (H,); for a batch, all of them have a first dimension B. x is a list of inputs of
# a layer that has several, and y a tuple of a net that has several outputs.
Step = Callable[[Any, RecurrentState], tuple[Any, RecurrentState]]


def numpy_step(chain: Sequence[Layer], parameters: Parameters) -> Step:
    """The function that runs one step of the net. The parameters are prepared here, once."""
    makers: dict[type[Layer], Callable[[Layer, Parameters], Step]] = {
        Embedding: _embedding_step,
        Activation: _activation_step,
        Linear: _linear_step,
        LSTM: _lstm_step,
        GRU: _gru_step,
    }
    steps = []
    for layer in chain:
        usual = getattr(layer, "usual", True)  # a recurrent layer with its usual functions
        make = makers.get(type(layer), _other_step) if usual else _other_step
        steps.append((layer, make(layer, parameters), len(layer.state_shapes(parameters))))
    later = read_later(chain)

    def step(x: Any, state: RecurrentState) -> tuple[Any, RecurrentState]:
        new_state: RecurrentState = ()
        outputs: dict[int, Any] = {0: x}
        for index, (layer, layer_step, entries) in enumerate(steps):
            if layer.joins:
                x = [x if source == index else outputs[source] for source in layer.sources]
            elif layer.sources[0] != index:
                x = outputs[layer.sources[0]]
            x, own = layer_step(x, state[:entries])
            state, new_state = state[entries:], new_state + own
            if index + 1 in later:
                outputs[index + 1] = x
        # The output of a recurrent layer is also its state, which the caller must not change.
        return (x.copy() if chain[-1].directions else x), new_state

    return step


def _other_step(layer: Layer, parameters: Parameters) -> Step:
    """A step as a sequence of one step, for a layer without a quicker way."""
    run = Pass(parameters, np.dtype(np.float64), {}, NUMPY, keep=False)

    def step(x: Any, state: RecurrentState) -> tuple[Any, RecurrentState]:
        first = x[0] if layer.joins else x
        at = (None,) if first.ndim == 2 else (None, None)  # as (1, B, features)
        read = [part[at] for part in x] if layer.joins else x[at]
        if first.ndim == 2:
            y, new, _ = layer.forward(run, read, state)
        else:
            y, new, _ = layer.forward(run, read, _each(state, lambda part: part[None]))
            new = _each(new, lambda part: part[0])
        strip = (0,) * len(at)
        return tuple(part[strip] for part in y) if isinstance(y, tuple) else y[strip], new

    return step


def _each(state: RecurrentState, function: Callable[[Array], Array]) -> RecurrentState:
    """A state whose arrays are those of another one, changed by a function."""
    return tuple(
        tuple(map(function, entry)) if isinstance(entry, tuple) else function(entry)
        for entry in state
    )


def _embedding_step(layer: Layer, parameters: Parameters) -> Step:
    weight = parameters[layer.names[0]]
    return lambda x, state: (weight.take(x, axis=0), ())


def _activation_step(layer: Layer, parameters: Parameters) -> Step:
    assert isinstance(layer, Activation)
    function = layer.compute
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
    bias = summed_bias(parameters, end)

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
