"""Activation functions: every one that ONNX has, against its formula, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.functions import cell_functions, cell_names, function_name, node_of
from l0gate.formats._onnx.onnx_format import Onnx
from l0gate.formats.layers import Activation, Layer, Linear, Other

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "relu6": lambda x: np.clip(x, 0, 6),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def run(layers: list[Layer], x: np.ndarray) -> np.ndarray:
    runner = Onnx().runner(Onnx().write(Content(layers)))
    assert runner is not None
    return runner.sequence(x)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_layers(name: str) -> None:
    x = np.linspace(-8, 8, 60, dtype=np.float32).reshape(20, 3)
    layers: list[Layer] = [Linear("out", np.eye(3, dtype=np.float32), None), Activation(name)]
    np.testing.assert_allclose(run(layers, x), FORMULAS[name](x), atol=2e-6)
    assert Onnx().read(Onnx().write(Content(layers))).layers[-1] == Activation(name)


@pytest.mark.parametrize("name", ["elu", "leaky_relu"])
def test_slopes(name: str) -> None:
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    entry = {"type": "activation", "function": name, "slope": 0.25}
    layers: list[Layer] = [Linear("out", np.eye(3, dtype=np.float32), None), Other(entry)]
    below = 0.25 * (np.expm1(x) if name == "elu" else x)
    np.testing.assert_allclose(run(layers, x), np.where(x > 0, x, below), atol=1e-6)
    last = Onnx().read(Onnx().write(Content(layers))).layers[-1]
    assert isinstance(last, Other)
    assert last.entry == entry


def test_functions_of_cells_go_both_ways() -> None:
    names = ["hard_sigmoid", "elu", "elu"]
    found = cell_functions(names)
    assert found is not None
    operators = [str(o) for o in found["activations"]]
    numbers = [[float(n) for n in found[f"activation_{k}"]] for k in ("alpha", "beta")]  # type: ignore[arg-type]
    assert cell_names(operators, *numbers) == names
    assert cell_functions(["sigmoid", "swish"]) is None


def test_functions_that_l0gate_lacks() -> None:
    assert node_of("softmax") is None
    assert function_name("ThresholdedRelu", 1.0, None) is None
    with pytest.raises(l0gate.L0GateError, match=r"'ScaledTanh' with alpha 1\.7"):
        cell_names(["ScaledTanh"], [1.7], [0.6])
    with pytest.raises(l0gate.L0GateError, match="more numbers"):
        cell_names(["Tanh"], [1.0], [])
