"""From a description to layers: what each is, and the axes that it reads and has."""

from __future__ import annotations

import json

import pytest
from reference_cases import MIXED

from l0gate.reference import Net
from l0gate.reference._build import build


def test_a_description_survives_json() -> None:
    net = Net(json.loads(json.dumps(Net(MIXED, batch_first=True).layers)))
    assert net.layers == Net(MIXED).layers
    assert net.parameter_names == Net(MIXED).parameter_names


def test_the_axes_of_a_mixed_chain() -> None:
    chain = build(Net(MIXED).layers)
    assert [type(layer).__name__ for layer in chain] == [
        "Linear",
        "Activation",
        "GRU",
        "Activation",
        "Linear",
        "Activation",
        "LSTM",
        "LSTM",
        "Linear",
    ]
    read = [layer.reads for layer in chain if layer.names]
    assert read == [(), ("x",), ("f0", "b0"), ("x1",), ("h1",), ("h2",)]
    hidden = [end.axes for layer in chain for end in layer.directions]
    assert hidden == [("f0",), ("b0",), ("h1",), ("h2",)]


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_have_torchs_names(bias: bool) -> None:
    layers = [{"type": "gru", "name": "", "num_layers": 2, "bidirectional": True, "bias": bias}]
    stems = ["weight_ih", "weight_hh", *["bias_ih", "bias_hh"] * bias]
    assert [name for layer in build(Net(layers).layers) for name in layer.names] == [
        f"{stem}_l{depth}{suffix}"
        for depth in range(2)
        for suffix in ("", "_reverse")
        for stem in stems
    ]
