"""Layers from products, sums and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_cases import graph, node, random

import l0gate
from l0gate.formats._onnx.reading import content_of
from l0gate.formats.layers import Activation, Layer, Linear, Skip

M, BIAS = random(2, 3), random(3)
ARRAYS = {"M": M, "b": BIAS, "MT": np.ascontiguousarray(M.T), "c": np.array([0.5], np.float32)}
PRODUCT = node("MatMul", "x M", "v")


def layers(*nodes: Any, **more: Any) -> list[Layer]:
    return list(content_of(graph(nodes, ARRAYS, **more)).layers)


@pytest.mark.parametrize(
    "nodes",
    [
        [PRODUCT, node("Add", "v b", "y")],
        [PRODUCT, node("Add", "b v", "y")],
        [node("Gemm", "x M b", "y")],
        [node("Gemm", "x MT b", "y", transB=1)],
    ],
)
def test_linear_layers(nodes: list[Any]) -> None:
    (found,) = layers(*nodes)
    assert isinstance(found, Linear)
    np.testing.assert_array_equal(found.weight, M.T)
    np.testing.assert_array_equal(found.bias, BIAS)


def test_a_bias_of_one_number() -> None:
    (found,) = layers(PRODUCT, node("Add", "v c", "y"))
    assert isinstance(found, Linear)
    np.testing.assert_array_equal(found.bias, np.float32([0.5] * 3))


def test_the_sum_with_the_input() -> None:
    arrays = {"M": random(2, 2)}
    content = graph([PRODUCT, node("Add", "x v", "y")], arrays)
    assert isinstance(content_of(content).layers[-1], Skip)
    more = [node("Tanh", "s", "y")]
    content = graph([PRODUCT, node("Add", "x v", "s"), *more], arrays)
    with pytest.raises(l0gate.L0GateError, match="at the end only"):
        content_of(content)


def test_activations() -> None:
    nodes = [PRODUCT, node("Sigmoid", "v", "s"), node("Mul", "v s", "w"), node("Tanh", "w", "y")]
    assert layers(*nodes)[1:] == [Activation("swish"), Activation("tanh")]
    assert layers(PRODUCT, node("Softmax", "v", "y"))[1:] == [Activation("softmax")]
    assert layers(PRODUCT, node("Softmax", "v", "y", axis=2), opset=11)[1:] == [
        Activation("softmax")
    ]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([PRODUCT, node("LogSoftmax", "v", "y")], "LogSoftmax.*`output` may name.*'v'"),
        ([PRODUCT, node("Softmax", "v", "y", axis=0)], "another axis"),
        ([node("Gemm", "x M b", "y", alpha=2.0)], "scales or transposes"),
        ([PRODUCT, node("Add", "v b", "w"), node("Add", "w b", "y")], "adds a constant"),
        ([PRODUCT, node("Add", "v v", "y")], "adds two values"),
        ([PRODUCT, node("Mul", "v v", "y")], "multiplies two values"),
        ([PRODUCT, node("Mul", "v c", "y")], "multiplies two values"),
        ([PRODUCT, node("MatMul", "v v", "y")], "multiplies two computed values"),
        ([PRODUCT, node("Clip", "v - c", "y")], "clips to"),
        ([PRODUCT, node("HardSigmoid", "v", "y", alpha=0.4)], "which l0gate lacks"),
        ([PRODUCT, node("Dropout", "v - t", "y")], "drops values at random"),
        ([PRODUCT, node("Cast", "v", "y", to=7)], "changes the type"),
    ],
)
def test_what_l0gate_lacks_is_refused_by_name(nodes: list[Any], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        content_of(graph(nodes, {**ARRAYS, "t": np.array(True)}))


def test_what_the_output_does_not_need_may_be_unknown() -> None:
    assert len(layers(PRODUCT, node("Erf", "v", "w"), node("Tanh", "v", "y"))) == 2
