"""Graphs that others made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import l0gate
from l0gate.formats._onnx.reading import read_graph
from l0gate.formats.layers import Activation, Linear, Recurrent

DATA = Path(
    os.environ.get("L0GATE_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data"
)
NODES = DATA / "models" / "onnx_node"
EXACT = {
    "test_gru_defaults",
    "test_gru_with_initial_bias",
    "test_gru_batchwise",
    "test_lstm_defaults",
    "test_lstm_with_initial_bias",
    "test_lstm_batchwise",
}


def tensors(folder: Path, kind: str) -> list[np.ndarray]:
    files = sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]


@pytest.mark.skipif(not NODES.is_dir(), reason=f"looked for the models of ONNX in {NODES}")
@pytest.mark.parametrize("name", sorted(EXACT))
def test_onnx_s_own_models_reproduce(name: str) -> None:
    folder = NODES / name
    model = onnx.load(folder / "model.onnx")
    x, *weights = tensors(folder, "input")
    names = [value.name for value in model.graph.input]
    net = l0gate.import_(
        folder / "model.onnx", constants=dict(zip(names[1:], weights, strict=True))
    )
    y, state = net(x)
    expected = dict(
        zip([v.name for v in model.graph.output], tensors(folder, "output"), strict=True)
    )
    last = np.asarray(state[0][0] if isinstance(state[0], tuple) else state[0])
    found = {"Y": y, "Y_h": last}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key].reshape(value.shape), value, atol=1e-6)


@pytest.mark.skipif(not NODES.is_dir(), reason=f"looked for the models of ONNX in {NODES}")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_lstm_with_peepholes", "sequence_lens|initial state|peepholes"),
        ("test_gru_seq_length", "l0gate reads graphs of one input|initial|B"),
    ],
)
def test_what_is_not_read_is_named(name: str, message: str) -> None:
    folder = NODES / name
    model = onnx.load(folder / "model.onnx")
    weights = tensors(folder, "input")[1:]
    names = [value.name for value in model.graph.input]
    given = dict(zip(names[1:], weights, strict=True))
    if name == "test_gru_seq_length":
        given = {}
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.import_(folder / "model.onnx", constants=given)


def graph(*nodes: Any, outputs: tuple[str, ...] = ("y",), **arrays: np.ndarray) -> Any:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", 2])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_graph(list(nodes), "g", [value], ends, held)


def test_a_product_and_a_sum_are_a_linear_layer() -> None:
    weight, bias = np.arange(6, dtype="f4").reshape(2, 3), np.ones(3, "f4")
    layers, _ = read_graph(
        graph(
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Add", ["b", "a"], ["c"]),
            helper.make_node("Sigmoid", ["c"], ["d"]),
            helper.make_node("Mul", ["c", "d"], ["y"]),
            w=weight,
            b=bias,
        ),
        {},
    )
    layer, function = layers
    assert isinstance(layer, Linear)
    np.testing.assert_array_equal(layer.weight, weight.T)
    np.testing.assert_array_equal(layer.bias, bias)
    assert function == Activation("swish")


def test_a_cell_with_other_functions() -> None:
    node = helper.make_node(
        "GRU",
        ["x", "W", "R"],
        ["s", ""],
        hidden_size=1,
        activations=["HardSigmoid", "Relu"],
        activation_alpha=[0.2],
    )
    layers, _ = read_graph(
        graph(
            node,
            helper.make_node("Squeeze", ["s", "one"], ["y"]),
            W=np.ones((1, 3, 2), "f4"),
            R=np.ones((1, 3, 1), "f4"),
            one=np.array([1]),
        ),
        {},
    )
    (gru,) = layers
    assert isinstance(gru, Recurrent)
    assert (gru.activation, gru.recurrent_activation) == ("relu", "hard_sigmoid_keras2")
    assert not gru.reset_after


W = np.ones((2, 2), "f4")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Exp", ["x"], ["y"])], "the operator Exp; l0gate reads LSTM"),
        ([helper.make_node("MatMul", ["w", "x"], ["y"])], "with the weights first"),
        ([helper.make_node("MatMul", ["x", "v"], ["y"])], "no constant; give it as"),
        ([helper.make_node("Gemm", ["x", "w"], ["y"], alpha=2.0)], "alpha, beta or transA"),
        ([helper.make_node("Softmax", ["x"], ["y"], axis=0)], "over the axis 0"),
        ([helper.make_node("Transpose", ["x"], ["y"], perm=[2, 1, 0])], "time and batch exchanged"),
        ([helper.make_node("Add", ["x", "w"], ["y"])], "no bias of a linear layer"),
        ([helper.make_node("Tanh", ["x"], ["z"])], r"ends in \['y'\]"),
        (
            [helper.make_node("Tanh", ["x"], ["a"]), helper.make_node("Exp", ["q"], ["y"])],
            "reads another value than the last",
        ),
        (
            [
                helper.make_node("MatMul", ["x", "w"], ["a"]),
                helper.make_node("Add", ["a", "x"], ["b"]),
                helper.make_node("Tanh", ["b"], ["y"]),
            ],
            "a layer that is not the last",
        ),
    ],
)
def test_what_is_no_line_of_known_operators_is_refused(nodes: list[Any], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        read_graph(graph(*nodes, w=W), {})
