"""What is written: names, states, cells and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from format_cases import amplifier, direction, linear, saved
from onnx.reference import ReferenceEvaluator

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.reading import content_of
from l0gate.formats._onnx.writing import model_bytes
from l0gate.formats.layers import Layer, Other, Recurrent, Skip


def model(layers: list[Layer], static: bool = False) -> onnx.ModelProto:
    return onnx.load_from_string(model_bytes(Content(layers), static=static))


def stack() -> list[Layer]:
    rng = np.random.default_rng(0)
    both = (direction(rng, "gru", 4, 5), direction(rng, "gru", 4, 3))
    return [
        Recurrent("a", "lstm", (direction(rng, "lstm", 2, 4),)),
        Recurrent("b", "gru", both),
        linear(rng, 8, 1),
    ]


def test_states_stand_in_the_order_of_the_net() -> None:
    graph = model(stack()).graph
    names = ["x", "h0_in", "c0_in", "h1_in", "h2_in"]
    assert [value.name for value in graph.input] == names
    assert [v.name for v in graph.output] == ["y", "h0_out", "c0_out", "h1_out", "h2_out"]
    shapes = [
        [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in graph.input
    ]
    assert shapes == [["T", "B", 2], [1, "B", 4], [1, "B", 4], [1, "B", 5], [1, "B", 3]]


@pytest.mark.parametrize("function", ["tanh", "relu", "softsign", "linear"])
def test_a_simple_rnn(function: str) -> None:
    """Against the recursion h' = f(W x + b + R h + c), in ONNX's own evaluator."""
    rng = np.random.default_rng(0)
    end = direction(rng, "rnn", 2, 3)
    layers: list[Layer] = [Recurrent("rnn", "rnn", (end,), activation=function)]
    x = rng.standard_normal((6, 1, 2)).astype(np.float32)
    f = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "linear": np.positive}.get(
        function, lambda a: a / (1 + np.abs(a))
    )
    h, expected = np.zeros((1, 3), np.float32), []
    for x_t in x:
        h = f(x_t @ end.weight_ih.T + end.bias_ih + h @ end.weight_hh.T + end.bias_hh)
        expected.append(h)
    found = model(layers)
    zeros = np.zeros((1, 1, 3), np.float32)
    session = onnxruntime.InferenceSession(found.SerializeToString())
    y, last = session.run(None, {"x": x, "h0_in": zeros})
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(last[0], expected[-1], atol=1e-6)


def test_onnx_has_an_evaluator_that_agrees() -> None:
    """A second program: the reference implementation of the package onnx."""
    found = model(amplifier(4, "gru"))
    x = np.random.default_rng(0).standard_normal((5, 2, 1)).astype(np.float32)
    feed = {"x": x, "h0_in": np.zeros((1, 2, 4), np.float32)}
    (y, _) = ReferenceEvaluator(found).run(None, feed)
    expected, _ = saved(amplifier(4, "gru")).net()(x)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_connection_from_the_input() -> None:
    layers = amplifier(3)
    written = [model(layers), model([*layers, Skip()])]
    x = np.random.default_rng(0).standard_normal((5, 1, 1)).astype(np.float32)
    zeros = np.zeros((1, 1, 3), np.float32)
    feed = {"x": x, "h0_in": zeros, "c0_in": zeros}
    plain, added = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(["y"], feed)[0] for m in written
    )
    np.testing.assert_allclose(added, plain + x, atol=1e-6)


def test_names_that_meet_stay_apart() -> None:
    rng = np.random.default_rng(0)
    both = (direction(rng, "gru", 1, 3), direction(rng, "gru", 1, 3))
    layers: list[Layer] = [
        Recurrent("a", "gru", both),
        Recurrent("a_reverse", "gru", (direction(rng, "gru", 6, 3),)),
        replace(linear(rng, 3, 1), name=""),
    ]
    names = [node.name for node in model(layers).graph.node if node.name]
    assert len(set(names)) == len(names) == 3
    read = content_of(model_bytes(Content(layers), static=False)).layers
    assert len({layer.name for layer in read}) == 3  # type: ignore[union-attr]


def test_what_it_cannot_hold_is_refused() -> None:
    with pytest.raises(l0gate.L0GateError, match=r"'b'.*static=True runs forward only"):
        model(stack(), static=True)
    rng = np.random.default_rng(0)
    cell = Recurrent("rnn", "gru", (direction(rng, "gru", 2, 3),), activation="gelu")
    with pytest.raises(l0gate.L0GateError, match=r"'rnn'.*the functions sigmoid and gelu"):
        model([cell])
    conv = Other({"type": "conv1d", "name": "front"}, {"weight": np.ones((2, 2, 3))})
    with pytest.raises(l0gate.L0GateError, match=r"'front' \(conv1d\)"):
        model([conv, linear(rng, 2, 1)])
