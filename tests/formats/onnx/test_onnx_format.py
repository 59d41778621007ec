"""ONNX files: run by ONNX Runtime, read back, damaged, hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from format_cases import SETTINGS, amplifier, nets, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.onnx_format import Onnx
from l0gate.formats.assembly import assembled
from l0gate.formats.export import read_file
from l0gate.formats.layers import Layer, Recurrent
from l0gate.formats.proof import prove

ONNX = Onnx()
ALL: dict[str, Any] = {
    "embedding": True,
    "reset_before": True,
    "cells": ("lstm", "gru"),
    "skip": True,
    "linear_bias": False,
}


def equal_directions(layers: list[Layer]) -> list[Layer]:
    """ONNX has one size for both directions."""
    return [
        Recurrent(x.name, x.cell, (x.directions[0],) * len(x.directions), x.reset_after)
        if isinstance(x, Recurrent)
        else x
        for x in layers
    ]


@given(nets(**ALL), st.booleans(), st.booleans())
@settings(**SETTINGS)
def test_onnx_runtime_computes_the_same(
    layers: list[Layer], batch_first: bool, static: bool
) -> None:
    net = assembled(layers, batch_first=batch_first)
    written = ONNX.write(Content(layers, {"a": 1}, batch_first), static=static)
    runner = ONNX.runner(written, static=static)
    assert runner.name.startswith("ONNX Runtime")
    assert prove(net, layers, runner, "onnx", 0).stepwise
    found = ONNX.read(written)
    assert (found.batch_first, found.metadata) == (batch_first, {"a": 1})
    back = assembled(found.layers, batch_first=batch_first)
    assert {n: a.tolist() for n, a in back.parameters.items()} == {
        n: a.tolist() for n, a in net.parameters.items()
    }
    assert ONNX.write(ONNX.read(ONNX.write(found))) == ONNX.write(found)


@given(nets(bidirectional=True, embedding=True, functions=("tanh",)).map(equal_directions))
@settings(**SETTINGS)
def test_two_directions(layers: list[Layer]) -> None:
    written = ONNX.write(Content(layers))
    prove(saved(layers), layers, ONNX.runner(written), "onnx", 0)
    found = ONNX.read(written)
    assert ONNX.write(found) == written


class Speech(torch.nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(6, 8)
        self.gru = torch.nn.GRU(8, 10, num_layers=2, batch_first=batch_first)
        self.lstm = torch.nn.LSTM(10, 7, batch_first=batch_first, bias=False)
        self.out = torch.nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(self.lstm(self.gru(torch.tanh(self.encoder(x)))[0])[0])
        return torch.sigmoid(y)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_models_that_torch_exports(tmp_path: Path, batch_first: bool, dynamo: bool) -> None:
    if dynamo:
        pytest.importorskip("onnxscript")
    model, path = Speech(batch_first).eval(), tmp_path / "speech.onnx"
    x = torch.randn(4, 9, 6)
    torch.onnx.export(model, (x,), str(path), dynamo=dynamo, external_data=False)
    net = l0gate.import_(path)
    assert net.net.batch_first == batch_first
    np.testing.assert_allclose(net(x.numpy())[0], model(x).detach(), atol=1e-5)
    l0gate.export(net, tmp_path / "again.onnx")


def changed(change: Any) -> bytes:
    model = onnx.ModelProto.FromString(ONNX.write(Content(amplifier(3))))
    change(model)
    content: bytes = model.SerializeToString()
    return content


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def huge(model: Any) -> None:
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([2**20, 2**20])


def missing(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.dims[1] += 1


def nan(model: Any) -> None:
    tensor = model.graph.initializer[0]
    values = np.full(tuple(tensor.dims), np.nan, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def operator(model: Any) -> None:
    model.graph.node[-1].op_type = "NonZero"


def lengths(model: Any) -> None:
    model.graph.node[0].input[4] = "lengths"
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))


def clip(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("clip", 3.0))


def reverse(model: Any) -> None:
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "direction":
            attribute.s = b"reverse"


def state(model: Any) -> None:
    tensor = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "h0_in")
    model.graph.initializer.append(tensor)
    del model.graph.input[1]


def nothing(model: Any) -> None:
    del model.graph.node[:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(external), "in another file, which is not read"),
        (changed(huge), "too large"),
        (changed(missing), "cannot be read"),
        (changed(nan), "not finite"),
        (changed(operator), "the operator NonZero"),
        (changed(lengths), "sequence_lens"),
        (changed(clip), "with clip"),
        (changed(reverse), "direction 'reverse'"),
        (changed(state), "initial state 'h0_in' that is not zero"),
        (changed(nothing), "holds no operators"),
        (b"\xff" * 100, "is no ONNX file"),
        (ONNX.write(Content(amplifier(3)))[:-90], "is no ONNX file|does not|no constant|ends in"),
        (b"", "holds no operators"),
    ],
)
def test_damaged_and_hostile_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.import_(path)


def test_constants_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(ONNX.write(Content(amplifier(3))))
    for wrong in (3, [1], {"W": "x"}, {3: 1}):
        with pytest.raises(l0gate.L0GateError, match="`constants"):
            read_file(path, constants=wrong)
