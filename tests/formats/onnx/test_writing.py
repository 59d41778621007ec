"""What an ONNX file says, besides the numbers."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from format_cases import amplifier, direction, linear

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.writing import onnx_model, state_names
from l0gate.formats.layers import Activation, Layer, Linear, Recurrent

RNG = np.random.default_rng(0)
STACK: list[Layer] = [
    Recurrent("a", "lstm", (direction(RNG, "lstm", 2, 3),)),
    Recurrent("b", "gru", (direction(RNG, "gru", 3, 5),)),
    linear(RNG, 5, 1),
]


def test_every_layer_has_its_states() -> None:
    model = onnx.ModelProto.FromString(onnx_model(Content(STACK, proof="equal")))
    assert [name for name, _ in state_names(STACK)] == ["h0", "c0", "h1"]
    assert [value.name for value in model.graph.input] == ["x", "h0_in", "c0_in", "h1_in"]
    assert [value.name for value in model.graph.output] == ["y", "h0_out", "c0_out", "h1_out"]
    found = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(found["l0gate.states"]) == ["h0", "c0", "h1"]
    assert found["l0gate.proof"] == "equal"
    sizes = [value.type.tensor_type.shape.dim for value in model.graph.input]
    assert [dim.dim_param for dim in sizes[0]][:2] == ["time", "batch"]
    assert [dims[2].dim_value for dims in sizes] == [2, 3, 3, 5]


def test_a_static_file_has_one_step_of_one_sequence() -> None:
    model = onnx.ModelProto.FromString(onnx_model(Content(STACK), static=True))
    for value in [*model.graph.input, *model.graph.output]:
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim][:2] == [1, 1]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Recurrent("r", "gru", (direction(RNG, "gru", 1, 3), direction(RNG, "gru", 1, 2)))],
            "directions of one size",
        ),
        ([*amplifier(), Activation("gelu")], "no such function"),
        ([Recurrent("r", "lstm", (direction(RNG, "lstm", 1, 3),), activation="gelu")], "no cell"),
    ],
)
def test_what_it_cannot_hold_is_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        onnx_model(Content(layers))


def test_functions_with_numbers() -> None:
    layers: list[Layer] = [Linear("a", np.ones((1, 1), "f4"), None), Activation("hard_sigmoid")]
    (node,) = [
        node
        for node in onnx.ModelProto.FromString(onnx_model(Content(layers))).graph.node
        if node.op_type == "HardSigmoid"
    ]
    assert {a.name: round(a.f, 6) for a in node.attribute} == {"alpha": 0.166667, "beta": 0.5}
