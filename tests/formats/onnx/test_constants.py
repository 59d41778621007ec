"""Values in a graph that do not depend on its input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import l0gate
from l0gate.formats._onnx.constants import Constants, attributes, tensor_array

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def graph(*nodes: Any, **arrays: np.ndarray) -> Any:
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_graph(list(nodes), "g", [], [], tensors)


def taken(*nodes: Any, **arrays: np.ndarray) -> Constants:
    found = Constants(graph(*nodes, **arrays), {})
    assert all(found.take(node) for node in nodes)
    return found


@pytest.mark.parametrize(
    ("operator", "options", "more", "expected"),
    [
        ("Transpose", {"perm": [1, 0]}, {}, MATRIX.T),
        ("Unsqueeze", {}, {"axes": np.array([0])}, MATRIX[None]),
        ("Identity", {}, {}, MATRIX),
        ("Concat", {"axis": 0}, {"again": MATRIX}, np.concatenate([MATRIX, MATRIX])),
        ("Slice", {}, {"s": np.array([1]), "e": np.array([9]), "a": np.array([1])}, MATRIX[:, 1:]),
        ("Expand", {}, {"shape": np.array([2, 2, 3])}, np.stack([MATRIX, MATRIX])),
    ],
)
def test_weights_are_computed(
    operator: str, options: Any, more: dict[str, np.ndarray], expected: np.ndarray
) -> None:
    node = helper.make_node(operator, ["w", *more], ["out"], **options)
    np.testing.assert_array_equal(taken(node, w=MATRIX, **more).arrays["out"], expected)


def test_a_state_of_zeros_for_any_batch() -> None:
    found = taken(
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "zero"], ["batch1"]),
        helper.make_node("Concat", ["one1", "batch1", "size"], ["whole"], axis=0),
        helper.make_node("ConstantOfShape", ["whole"], ["state"]),
        helper.make_node("Slice", ["state", "zero", "one1", "zero"], ["first"]),
        one=np.array(1),
        zero=np.array([0]),
        one1=np.array([1]),
        size=np.array([5]),
    )
    assert found.is_zero("state")
    assert found.is_zero("first")
    assert found.is_zero("")
    assert not found.is_zero("one")


def test_a_state_of_ones_is_not_zero() -> None:
    value = numpy_helper.from_array(np.array([1.0], np.float32))
    node = helper.make_node("ConstantOfShape", ["size"], ["state"], value=value)
    found = Constants(graph(node, size=np.array([3])), {})
    assert not found.take(node)
    assert not found.is_zero("state")


def test_a_node_that_reads_the_input_is_not_taken() -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    assert not Constants(graph(node), {}).take(node)


def test_an_expansion_beyond_memory_is_not_made() -> None:
    node = helper.make_node("Expand", ["w", "shape"], ["out"])
    found = Constants(graph(node, w=np.ones(1, "f4"), shape=np.array([2**40])), {})
    assert not found.take(node)


def test_constants_of_each_kind() -> None:
    for options, expected in (
        ({"value": numpy_helper.from_array(MATRIX)}, MATRIX),
        ({"value_float": 2.0}, 2.0),
        ({"value_ints": [1, 2]}, [1, 2]),
    ):
        node = helper.make_node("Constant", [], ["out"], **options)
        np.testing.assert_array_equal(taken(node).arrays["out"], expected)
    with pytest.raises(l0gate.L0GateError, match="of a kind"):
        Constants(graph(), {}).take(helper.make_node("Constant", [], ["out"], value_string="x"))


def test_attributes_as_text() -> None:
    node = helper.make_node(
        "LSTM", [], [], direction="forward", activations=["Tanh"], hidden_size=3
    )
    assert attributes(node) == {"direction": "forward", "activations": ["Tanh"], "hidden_size": 3}


def test_a_tensor_without_data_is_refused() -> None:
    tensor = TensorProto(dims=[3], data_type=TensorProto.FLOAT, name="w")
    with pytest.raises(l0gate.L0GateError, match="but not its data"):
        tensor_array(tensor)
    tensor.dims[0] = -3
    with pytest.raises(l0gate.L0GateError, match="too large"):
        tensor_array(tensor)
