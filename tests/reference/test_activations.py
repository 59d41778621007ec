"""Activation functions: torch's, in both dtypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from l0gate._vocabulary import ACTIVATIONS
from l0gate.reference._activations import activation

TORCH = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softmax": lambda x: torch.softmax(x, -1),
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "softsign": F.softsign,
    "hard_tanh": F.hardtanh,
    "relu6": F.relu6,
    "hard_sigmoid": F.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_are_torchs(name: str, dtype: type) -> None:
    x = np.linspace(-9, 9, 60).reshape(5, 12).astype(dtype)
    y = activation(name)(x)
    assert y.dtype == dtype
    assert not np.shares_memory(y, x)
    expected = TORCH[name](torch.tensor(x)).numpy()
    np.testing.assert_allclose(y, expected, atol=2e-6 if dtype == np.float32 else 1e-8)


def test_slopes_are_given() -> None:
    x = np.array([-2.0, 3.0])
    np.testing.assert_allclose(activation("leaky_relu", 0.3)(x), [-0.6, 3])
    np.testing.assert_allclose(activation("elu", 0.5)(x), [0.5 * np.expm1(-2), 3])
