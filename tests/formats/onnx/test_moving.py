"""Axes and features moved, chosen and joined between layers, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx_cases import GRU, graph, node, random

import l0gate
from l0gate.formats._onnx.reading import content_of
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import Embedding, Linear, Selection

INTS = {name: np.array([k]) for name, k in (("n0", 0), ("n1", 1), ("n2", 2), ("m1", -1))}
ARRAYS = {**GRU, **INTS, "big": np.array([2**62]), "last": np.array(-1), "V": random(3, 3)}
SECOND = {"W2": random(1, 9, 3), "R2": random(1, 9, 3)}
GRU_1 = node("GRU", "x W R B", "Y H")
FLAT = node("Squeeze", "Y n1", "v")


def outputs(content: bytes, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (expected,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    found = content_of(content)
    y, _ = assembled(found.layers, batch_first=found.batch_first).net()(x)
    return y, np.asarray(expected)


@pytest.mark.parametrize(
    "between",
    [
        [node("Identity", "v", "w")],
        [node("Dropout", "v", "w")],
        [node("Cast", "v", "w", to=1)],
        [node("Transpose", "v", "t", perm=[1, 0, 2]), node("Transpose", "t", "w", perm=[1, 0, 2])],
        [node("Unsqueeze", "v n2", "t"), node("Squeeze", "t n2", "w")],
        [
            node("Shape", "v", "s"),
            node("Reshape", "v rows", "t"),
            node("Reshape", "t s", "w"),
        ],
        [node("Slice", "v n0 big n2", "w")],
    ],
)
def test_between_two_layers(between: list[Any]) -> None:
    nodes = [GRU_1, FLAT, *between, node("GRU", "w W2 R2", "Z"), node("Squeeze", "Z n1", "y")]
    arrays = {**ARRAYS, **SECOND, "rows": np.array([-1, 3])}
    y, expected = outputs(graph(nodes, arrays), random(5, 2, 2))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_rows_of_time_and_batch_go_through_a_matrix() -> None:
    nodes = [
        GRU_1,
        FLAT,
        node("Shape", "v", "s"),
        node("Reshape", "v rows", "t"),
        node("MatMul", "t V", "u"),
        node("Reshape", "u s", "y"),
    ]
    content = graph(nodes, {**ARRAYS, "rows": np.array([-1, 3])})
    y, expected = outputs(content, random(5, 2, 2))
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Gather", "v last", "y", axis=0)],
        [node("Slice", "v m1 big n0", "w"), node("Squeeze", "w n0", "y")],
        [node("Squeeze", "H n0", "y")],
        [node("Squeeze", "H n0", "w"), node("MatMul", "w V", "y")],
    ],
)
def test_the_last_step(nodes: list[Any]) -> None:
    content = graph([GRU_1, FLAT, *nodes], ARRAYS)
    y, expected = outputs(content, random(5, 2, 2))
    np.testing.assert_allclose(y[-1], expected, atol=1e-6)


def test_chosen_inputs() -> None:
    arrays = {**ARRAYS, "kept": np.array([0, -2])}
    inputs = {"x": ["T", "B", 4]}
    nodes = [node("Gather", "x kept", "v", axis=2), node("GRU", "v W R B", "Y")]
    content = graph([*nodes, node("Squeeze", "Y n1", "y")], arrays, inputs)
    chosen = content_of(content).layers[0]
    assert isinstance(chosen, Selection)
    assert (chosen.index.tolist(), chosen.size) == ([0, 2], 4)
    y, expected = outputs(content, random(5, 2, 4))
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("kept", [[3, 0], [1]])
def test_inputs_chosen_for_a_linear_layer_become_columns_of_zeros(kept: list[int]) -> None:
    arrays = {"kept": np.array(kept), "M": random(len(kept), 3)}
    nodes = [node("Gather", "x kept", "v", axis=-1), node("MatMul", "v M", "y")]
    content = graph(nodes, arrays, {"x": ["T", "B", 4]})
    (layer,) = content_of(content).layers
    assert isinstance(layer, Linear)
    assert layer.weight.shape == (3, 4)
    y, expected = outputs(content, random(5, 2, 4))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_tokens() -> None:
    table = random(9, 2)
    nodes = [node("Gather", "E x", "v"), node("GRU", "v W R B", "Y"), node("Squeeze", "Y n1", "y")]
    content = graph(nodes, {**ARRAYS, "E": table}, {"x": ["T", "B"]}, tokens=True)
    first = content_of(content).layers[0]
    assert isinstance(first, Embedding)
    np.testing.assert_array_equal(first.weight, table)
    y, expected = outputs(content, np.array([[1, 2], [3, 8], [0, 0]]))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_directions_joined() -> None:
    back = node("GRU", "x W2 R2 B2", "Z", direction="reverse", hidden_size=4)
    arrays = {**ARRAYS, "W2": random(1, 12, 2), "R2": random(1, 12, 4), "B2": random(1, 24)}
    nodes = [GRU_1, back, FLAT, node("Squeeze", "Z n1", "w"), node("Concat", "v w", "y", axis=-1)]
    y, expected = outputs(graph(nodes, arrays), random(5, 2, 2))
    assert y.shape[-1] == 7
    np.testing.assert_allclose(y, expected, atol=1e-6)
    nodes[-1] = node("Concat", "w v", "y", axis=2)
    with pytest.raises(l0gate.L0GateError, match="joins values in Concat"):
        content_of(graph(nodes, arrays))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Gather", "v n1", "y", axis=0)], "moves axes in Gather"),
        ([node("Gather", "v n1", "y", axis=2)], "chooses features in Gather"),
        ([node("Slice", "v n1 big n0", "y")], "moves axes in Slice"),
        ([node("Reshape", "v n0", "y")], "moves axes in Reshape"),
        ([node("Split", "v", "y z", axis=2)], "moves axes in Split"),
        ([node("Transpose", "v", "y", perm=[1, 0, 2])], "another order"),
        ([node("Squeeze", "v n0", "y")], "moves axes in Squeeze"),
    ],
)
def test_what_is_not_followed_is_named(nodes: list[Any], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        content_of(graph([GRU_1, FLAT, *nodes], ARRAYS))
