"""LSTM, GRU and RNN nodes that others wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx_cases import GRU, LSTM, RNN, graph, node, random

import l0gate
from l0gate.formats._onnx.reading import content_of
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import Recurrent

X = random(7, 2, 2)
SQUEEZE = node("Squeeze", "Y one", "y")
ONE = {"one": np.array([1])}


def run(content: bytes, **feed: np.ndarray) -> np.ndarray:
    (y,) = onnxruntime.InferenceSession(content).run(None, {"x": X, **feed})
    return np.asarray(y)


def check(content: bytes, atol: float = 1e-6) -> Recurrent:
    found = content_of(content)
    y, _ = assembled(found.layers, batch_first=found.batch_first).net()(X)
    np.testing.assert_allclose(y, run(content), atol=atol)
    assert isinstance(found.layers[0], Recurrent)
    return found.layers[0]


@pytest.mark.parametrize(("operator", "arrays"), [("LSTM", LSTM), ("GRU", GRU)])
def test_defaults_of_onnx(operator: str, arrays: dict[str, np.ndarray]) -> None:
    """A GRU resets the state before its product unless linear_before_reset says otherwise."""
    layer = check(graph([node(operator, "x W R B", "Y"), SQUEEZE], {**arrays, **ONE}))
    assert not layer.reset_after or operator == "LSTM"
    plain = check(graph([node(operator, "x W R", "Y"), SQUEEZE], {**arrays, **ONE}))
    assert plain.directions[0].bias_ih is None


def test_two_directions_in_one_node() -> None:
    arrays = {key: np.concatenate([a, random(*a.shape)]) for key, a in LSTM.items()}
    nodes = [
        node("LSTM", "x W R B", "Y", direction="bidirectional"),
        node("Transpose", "Y", "Z", perm=[0, 2, 1, 3]),
        node("Reshape", "Z shape", "y"),
    ]
    layer = check(graph(nodes, {**arrays, "shape": np.array([0, 0, -1])}))
    assert len(layer.directions) == 2


def test_functions_of_the_cell() -> None:
    """hard_sigmoid of two meanings, and an RNN's relu."""
    for alpha, name in ((0.2, "hard_sigmoid_keras2"), (1 / 6, "hard_sigmoid")):
        found = content_of(
            graph(
                [
                    node(
                        "LSTM",
                        "x W R",
                        "Y",
                        activations=["HardSigmoid", "Tanh", "Tanh"],
                        activation_alpha=[alpha],
                        activation_beta=[0.5],
                    ),
                    SQUEEZE,
                ],
                {**LSTM, **ONE},
            )
        ).layers[0]
        assert isinstance(found, Recurrent)
        assert (found.activation, found.recurrent_activation) == ("tanh", name)
    nodes = [node("RNN", "x W R B", "Y", activations=["relu"]), SQUEEZE]
    (found,) = content_of(graph(nodes, {**RNN, **ONE})).layers
    assert isinstance(found, Recurrent)
    assert (found.cell, found.activation) == ("rnn", "relu")
    np.testing.assert_array_equal(found.directions[0].weight_hh, RNN["R"][0])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "shape", "h")],
        [node("Expand", "zero shape", "h")],
        [node("ConstantOfShape", "shape", "z"), node("Slice", "z zero one_i zero", "h")],
        [node("Shape", "x", "s"), node("Sin", "s", "t"), node("ConstantOfShape", "t", "h")],
        [node("Identity", "zeros", "h")],
    ],
)
def test_states_of_zeros_however_written(nodes: list[Any]) -> None:
    arrays = {
        "shape": np.array([1, 2, 3]),
        "zero": np.array([0]),
        "one_i": np.array([1]),
        "zeros": np.zeros((1, 2, 3), np.float32),
    }
    cell = node("GRU", "x W R B - h", "Y")
    found = content_of(graph([*nodes, cell, SQUEEZE], {**GRU, **ONE, **arrays})).layers
    assert [type(layer) for layer in found] == [Recurrent]


def test_states_that_the_caller_gives() -> None:
    inputs = {"x": ["T", "B", 2], "h": [2, "B", 3]}
    nodes = [
        node("Slice", "h zero one", "h0"),
        node("GRU", "x W R B - h0", "Y Y_h"),
        SQUEEZE,
        node("Concat", "Y_h Y_h", "h_out", axis=0),
    ]
    content = graph(nodes, {**GRU, **ONE, "zero": np.array([0])}, inputs, ["y", "h_out"])
    assert len(content_of(content).layers) == 1


FULL = {"two": np.array([7, 7], np.int32), "ones": np.ones((1, 2, 3), np.float32)}


@pytest.mark.parametrize(
    ("cell", "arrays", "message"),
    [
        (node("LSTM", "x W R B", "Y", clip=3.0), LSTM, "clips its gates in LSTM '/m/LSTM_Y'"),
        (node("LSTM", "x W R B", "Y", input_forget=1), LSTM, "couples input and forget"),
        (node("LSTM", "x W R B - - - P", "Y"), {**LSTM, "P": random(1, 9)}, "peepholes"),
        (node("GRU", "x W R B - ones", "Y"), GRU, "initial_h is numbers other than zero"),
        (node("GRU", "x W R B - H", "Y"), GRU, "initial_h is what the net computes"),
        (node("GRU", "x W R B two", "Y"), GRU, "sequence_lens"),
        (node("GRU", "x W R B", "Y", direction="reverse"), GRU, "'reverse' in 'm_l1'"),
        (node("GRU", "x W R B", "Y", direction="up"), GRU, "direction 'up'"),
        (node("GRU", "x W R B", "Y", hidden_size=4), GRU, "arrays that do not fit"),
        (node("LSTM", "x W R B", "Y"), GRU, "arrays that do not fit"),
        (node("GRU", "x W H B", "Y"), GRU, r"R \('H'\) is no constant"),
        (node("GRU", "x W R B", "Y", activations=["Tanh"]), GRU, "number of activations"),
        (node("GRU", "x W R B", "Y", activations=["Cos", "Tanh"]), GRU, "function 'Cos'"),
        (
            node("LSTM", "x W R B", "Y", activations=["Sigmoid", "Tanh", "Relu"]),
            LSTM,
            "different activations",
        ),
        (node("GRU", "x W R B", "Y", layout=2), GRU, "layout 2"),
    ],
)
def test_what_l0gate_lacks_is_refused_by_name(
    cell: Any, arrays: dict[str, np.ndarray], message: str
) -> None:
    first = node("GRU", "x G0 G1 G2", "G H")
    rest = {"G0": GRU["W"], "G1": GRU["R"], "G2": GRU["B"], **FULL}
    content = graph([first, cell, SQUEEZE], {**arrays, **ONE, **rest})
    with pytest.raises(l0gate.L0GateError, match=message):
        content_of(content)


def test_full_lengths_are_no_lengths() -> None:
    inputs = {"x": [7, 2, 2]}
    content = graph([node("GRU", "x W R B two", "Y"), SQUEEZE], {**GRU, **ONE, **FULL}, inputs)
    assert len(content_of(content).layers) == 1


def test_batches_before_time_by_layout() -> None:
    """ONNX Runtime cannot run it; the same node time first is the reference."""
    nodes = [node("GRU", "x W R B", "Y", layout=1), node("Squeeze", "Y two", "y")]
    found = content_of(graph(nodes, {**GRU, "two": np.array([2])}, {"x": ["B", "T", 2]}))
    assert found.batch_first
    y, _ = assembled(found.layers, batch_first=True).net()(X.transpose(1, 0, 2))
    expected = run(graph([node("GRU", "x W R B", "Y"), SQUEEZE], {**GRU, **ONE}))
    np.testing.assert_allclose(y, expected.transpose(1, 0, 2), atol=1e-6)
