"""The activation functions of a net, by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from l0gate._vocabulary import SLOPES
from l0gate.reference._scan import Array, sigmoid

_erf = np.frompyfunc(math.erf, 1, 1)
_GELU = math.sqrt(2 / math.pi)


def _elu(x: Array, slope: float) -> Array:
    y: Array = np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0))).astype(x.dtype, copy=False)
    return y


def _gelu(x: Array) -> Array:
    """x times the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415)."""
    y: Array = x * (0.5 * (1 + np.asarray(_erf(x / math.sqrt(2)), x.dtype)))
    return y


def _gelu_tanh(x: Array) -> Array:
    """The approximation that the same paper gives."""
    y: Array = 0.5 * x * (1 + np.tanh(_GELU * (x + 0.044715 * x * x * x)))
    return y


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "softmax": _softmax,
    "swish": lambda x: x * sigmoid(x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "softplus": lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_sigmoid": lambda x: np.clip(x * (1 / 6) + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda x: np.clip(x * 0.2 + 0.5, 0, 1),
    "linear": np.positive,  # a copy
}
_SLOPED: dict[str, Callable[[Array, float], Array]] = {
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x * slope),
    "elu": _elu,
}
# The derivatives of those that can be trained in NumPy, as functions of the output.
DERIVATIVES: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "relu": lambda y: (y > 0).astype(y.dtype),
}


def activation(name: str, slope: float | None = None) -> Callable[[Array], Array]:
    """The function of a name of `l0gate._vocabulary.ACTIVATIONS`; it keeps shape and dtype.

    `slope` is that of a function which has one: y = slope x below 0 (leaky_relu), y = slope
    (exp(x) - 1) below 0 (elu). None stands for its default.

    >>> activation("leaky_relu", 0.5)(np.array([-2.0, 3.0]))
    array([-1.,  3.])
    """
    if name not in SLOPES:
        return _FUNCTIONS[name]
    function, given = _SLOPED[name], SLOPES[name] if slope is None else slope
    return lambda x: function(x, given)
