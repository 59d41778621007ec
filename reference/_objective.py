"""The L0 objective: hard-concrete gates, the expected size of a net, and their gradients.

This is a second implementation, written independently of `l0gate/_hard_concrete.py` and of the
pruner, so that tests can compare the two. Pruning does not use it.

The gates are those of Louizos, Welling and Kingma (arXiv 1712.01312), the expected size is that of
Wen, Zhang, Bai and Xu (arXiv 1906.06847). The learned parameters are log alpha, one number per
neuron. Every function also returns the derivative with respect to log alpha. The dtype of log alpha
is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._checks import check_axes, check_parameters
from l0gate.reference._layers import Embedding, Parameters, RecurrentState
from l0gate.reference._losses import LOSSES
from l0gate.reference._net import Net
from l0gate.reference._recurrent import Recurrent
from l0gate.reference._scan import Array, sigmoid

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


def hard_concrete_sample(
    log_alpha: Array, u: Array, *, beta: float = BETA, gamma: float = GAMMA, zeta: float = ZETA
) -> tuple[Array, Array]:
    """Gates for uniform noise u in (0, 1), and their derivative with respect to log alpha.

    log_alpha and u have the same shape, which both results have too.

    s = sigmoid((ln u - ln(1 - u) + log alpha) / beta), stretched to s (zeta - gamma) + gamma and
    clipped to 0..1 (arXiv 1712.01312, equations 10 and 11). Where a gate is clipped, the
    derivative is 0.

    >>> gate, derivative = hard_concrete_sample(np.array([0.0, 0.0]), np.array([0.5, 0.999]))
    >>> gate.round(12).tolist(), derivative.round(2).tolist()
    ([0.5, 1.0], [0.45, 0.0])
    """
    if np.shape(u) != np.shape(log_alpha):
        raise L0GateError(
            f"`u` has shape {np.shape(u)}; expected {np.shape(log_alpha)}, that of `log_alpha`"
        )
    if not np.all((u > 0) & (u < 1)):
        raise L0GateError("`u` must lie strictly between 0 and 1")
    s = sigmoid((np.log(u) - np.log1p(-u) + log_alpha) / beta)
    return _stretch(s, s * (1 - s) / beta, gamma, zeta)


def hard_concrete_test_gate(
    log_alpha: Array,
    rule: str = "mean",
    *,
    beta: float = BETA,
    gamma: float = GAMMA,
    zeta: float = ZETA,
) -> tuple[Array, Array]:
    """Gates without noise, and their derivative with respect to log alpha.

    Both rules stretch and clip as `hard_concrete_sample`. "mean" does so with sigmoid(log alpha)
    (arXiv 1712.01312, equation 13). "median" does so with sigmoid(log alpha / beta), which is the
    sample at u = 1/2: it is 0 exactly where a gate is open with probability 1/2 or less.

    >>> gate, _ = hard_concrete_test_gate(np.array([-2.5, 0.0, 2.5]))
    >>> gate.round(12).tolist()
    [0.0, 0.5, 1.0]
    """
    if rule not in ("mean", "median"):
        raise L0GateError(f"`rule` is {rule!r}; allowed: mean, median")
    temperature = 1.0 if rule == "mean" else beta
    s = sigmoid(log_alpha / temperature)
    return _stretch(s, s * (1 - s) / temperature, gamma, zeta)


def hard_concrete_open_probability(
    log_alpha: Array, *, beta: float = BETA, gamma: float = GAMMA, zeta: float = ZETA
) -> tuple[Array, Array]:
    """The probability that a sampled gate is not 0, and its derivative with respect to log alpha.

    It is sigmoid(log alpha - beta ln(-gamma / zeta)) (arXiv 1712.01312, equation 12).

    >>> probability, _ = hard_concrete_open_probability(np.array([2 / 3 * np.log(0.1 / 1.1)]))
    >>> probability.round(12).tolist()
    [0.5]
    """
    probability = sigmoid(log_alpha - beta * float(np.log(-gamma / zeta)))
    return probability, probability * (1 - probability)


def expected_size(
    net: Net, parameters: Parameters, log_alpha: Mapping[str, Array], **distribution: float
) -> tuple[float, dict[str, Array]]:
    """The expected number of weights that stay in all matrices, and its gradients.

    `log_alpha` maps axes, named as the gates of `Net.forward`, to vectors. Other axes are not
    pruned. `distribution` may set beta, gamma and zeta. Returns the size, and its gradient with
    respect to log alpha by axis.

    Let p_a[i] be the probability that neuron i of axis a stays, and S(a) = sum p_a the expected
    number of its neurons. A matrix with input axis a and output axis b has k S(a) S(b) expected
    weights; k is 4 for an LSTM, 3 for a GRU and 1 for other layers. In `weight_hh` both axes are
    the same, and a weight on the diagonal depends on one neuron only. So it has k D(a) expected
    weights, with D(a) = S(a)^2 - sum p_a^2 + S(a).

    Example: an embedding of V words, two LSTM layers and a linear layer with V outputs. The axes
    are the embedding's features x and the hidden neurons h0 and h1. The size is
    V S(x) + 4 (S(x) S(h0) + D(h0)) + 4 (S(h0) S(h1) + D(h1)) + V S(h1).

    >>> net = Net([{"type": "gru", "name": "rnn", "bias": False}])
    >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 5})
    >>> expected_size(net, parameters, {})[0] == 3 * 5 * 2 + 3 * 5 * 5
    True
    """
    _, axis_sizes = check_parameters(net.chain, parameters)
    check_axes("log_alpha", log_alpha, axis_sizes)
    opened = {
        axis: hard_concrete_open_probability(values, **distribution)
        for axis, values in log_alpha.items()
    }
    p = {axis: probability for axis, (probability, _) in opened.items()}
    dp = {axis: np.zeros_like(probability) for axis, probability in p.items()}
    size = 0.0
    for blocks, outputs, inputs in _matrices(net, parameters, axis_sizes):
        n_out, n_in = (
            sum(float(p[axis].sum()) if axis in p else number for axis, number in side)
            for side in (outputs, inputs)
        )
        size += blocks * n_out * n_in
        for axis, _ in outputs:
            if axis in p:
                dp[axis] += blocks * n_in
        for axis, _ in inputs:
            if axis in p:
                dp[axis] += blocks * n_out
        if outputs == inputs and outputs[0][0] in p:  # the diagonal of weight_hh
            q, axis = p[outputs[0][0]], outputs[0][0]
            size += blocks * float((q - q * q).sum())
            dp[axis] += blocks * (1 - 2 * q)
    return size, {axis: dp[axis] * derivative for axis, (_, derivative) in opened.items()}


def l0_objective(
    net: Net,
    parameters: Parameters,
    log_alpha: Mapping[str, Array],
    u: Mapping[str, Array],
    x: Any,
    targets: Any,
    state: Any = None,
    *,
    strength: float,
    loss: str = "cross_entropy",
    engine: str = "auto",
    **distribution: float,
) -> tuple[float, dict[str, Array], dict[str, Array], RecurrentState]:
    """The task loss of the net with sampled gates, plus `strength` times its expected size.

    `log_alpha` and the uniform noise `u` map axes to vectors. Returns the objective, its gradients
    with respect to the parameters (by name) and to log alpha (by axis), and the new state.

    >>> net = Net([{"type": "lstm", "name": "rnn"}])
    >>> rng = np.random.default_rng(0)
    >>> parameters = net.init(rng, input_size=2, sizes={"rnn": 3}, dtype=np.float64)
    >>> x, target = rng.standard_normal((4, 1, 2)), np.zeros((4, 1, 3))
    >>> log_alpha, u = {"h0": np.ones(3)}, {"h0": rng.uniform(size=3)}
    >>> value, gradients, log_alpha_gradients, _ = l0_objective(
    ...     net, parameters, log_alpha, u, x, target, strength=0.1, loss="mse")
    >>> log_alpha_gradients["h0"].shape
    (3,)
    """
    if loss not in LOSSES:
        raise L0GateError(f"`loss` is {loss!r}; allowed: {', '.join(LOSSES)}")
    if set(u) != set(log_alpha):
        raise L0GateError(
            f"`u` has the axes {sorted(u)}; expected {sorted(log_alpha)}, those of `log_alpha`"
        )
    sampled = {
        axis: hard_concrete_sample(values, u[axis], **distribution)
        for axis, values in log_alpha.items()
    }
    gates = {axis: gate for axis, (gate, _) in sampled.items()}
    y, state, tape = net.forward(parameters, x, state, gates=gates, engine=engine)
    value, dy = LOSSES[loss](y, targets)
    gradients, _, _, gate_gradients = net.backward(tape, dy)
    size, size_gradients = expected_size(net, parameters, log_alpha, **distribution)
    log_alpha_gradients = {
        axis: gate_gradients[axis] * derivative + strength * size_gradients[axis]
        for axis, (_, derivative) in sampled.items()
    }
    return value + strength * size, gradients, log_alpha_gradients, state


def _stretch(s: Array, ds: Array, gamma: float, zeta: float) -> tuple[Array, Array]:
    """s (zeta - gamma) + gamma, clipped to 0..1, and its derivative; ds is the derivative of s."""
    stretched = s * (zeta - gamma) + gamma
    inside = (stretched > 0) & (stretched < 1)
    return np.clip(stretched, 0, 1), np.where(inside, ds * (zeta - gamma), 0)


# The axes of one dimension of a matrix, each with its size; "" stands for features without gates.
Side = list[tuple[str, int]]


def _matrices(
    net: Net, parameters: Parameters, axis_sizes: Mapping[str, int]
) -> Iterator[tuple[int, Side, Side]]:
    """Every matrix of the net as (blocks, output axes, input axes).

    `blocks` is the number of gates of the cell: 4 for an LSTM, 3 for a GRU, else 1.
    """
    layers = [layer for layer in net.chain if layer.names]
    for index, layer in enumerate(layers):
        if isinstance(layer, Recurrent):
            for end in layer.directions:
                hidden = [(axis, axis_sizes[axis]) for axis in end.axes]
                yield layer.blocks, hidden, [(axis, axis_sizes[axis]) for axis in layer.reads]
                yield layer.blocks, hidden, hidden
            continue
        following = layers[index + 1].reads if index + 1 < len(layers) else ()
        rows, columns = parameters[layer.names[0]].shape
        read, written = (rows, columns) if isinstance(layer, Embedding) else (columns, rows)
        yield (
            1,
            [(axis, axis_sizes[axis]) for axis in following] or [("", written)],
            [(axis, axis_sizes[axis]) for axis in layer.reads] or [("", read)],
        )
