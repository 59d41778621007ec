"""ONNX files as users write and read them: run by ONNX Runtime, read back, given options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from format_cases import SETTINGS, amplifier, direction, linear, nets, saved
from hypothesis import given, settings
from hypothesis import strategies as st

import l0gate
from l0gate._certificate import Certificate
from l0gate.formats import Content
from l0gate.formats._onnx import onnx_format
from l0gate.formats._onnx.onnx_format import Onnx
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import Embedding, Layer, Other, Recurrent
from l0gate.formats.proof import prove
from l0gate.formats.runner import Runner

ONNX = Onnx()


def run_by(written: bytes, **options: Any) -> Runner:
    runner = ONNX.runner(written, **options)
    assert runner is not None
    return runner


def equal(first: Content, second: Content) -> None:
    a, b = (saved(list(content.layers)) for content in (first, second))
    assert list(a.parameters) == list(b.parameters)
    for name, array in a.parameters.items():
        np.testing.assert_array_equal(array, b.parameters[name])
    assert a.chain == b.chain
    assert {k: v.tolist() for k, v in a.kept.items()} == {k: v.tolist() for k, v in b.kept.items()}
    assert first.batch_first == second.batch_first


CELLS = ("lstm", "gru", "rnn")
FUNCTIONS = ("tanh", "relu", "sigmoid", "softmax", "elu", "leaky_relu", "hard_sigmoid", "swish")
FUNCTIONS += ("softplus", "softsign", "relu6", "hard_tanh", "gelu")
NETS: dict[str, Any] = {
    "cells": CELLS,
    "functions": FUNCTIONS,
    "embedding": True,
    "reset_before": True,
    "linear_bias": False,
}


@given(nets(bidirectional=True, **NETS))
@settings(**SETTINGS)
def test_onnx_runtime_gives_the_same_outputs_whole_and_streamed(layers: list[Layer]) -> None:
    """Stacks of unequal sizes, with or without biases, chosen inputs, tokens."""
    written = ONNX.write(Content(layers))
    onnx.checker.check_model(onnx.load_from_string(written), full_check=True)
    proof = prove(saved(layers), layers, run_by(written), "onnx", 0)
    both = any(isinstance(x, Recurrent) and len(x.directions) == 2 for x in layers)
    assert proof.runner.startswith("ONNX Runtime")
    assert proof.stepwise == (not both)
    found = ONNX.read(written)
    equal(Content(layers), found)
    equal(found, ONNX.read(ONNX.write(found)))


@given(nets(skip=True, **NETS), st.booleans(), st.booleans())
@settings(**SETTINGS)
def test_batches_before_time_and_files_for_one_step(
    layers: list[Layer], batch_first: bool, static: bool
) -> None:
    content = Content(layers, {"a": 1}, batch_first)
    written = ONNX.write(content, static=static)
    model = onnx.load_from_string(written)
    fixed = [
        d.dim_value > 0
        for value in (*model.graph.input, *model.graph.output)
        for d in value.type.tensor_type.shape.dim
    ]
    assert all(fixed) == static
    net = assembled(layers, batch_first=batch_first)
    assert prove(net, layers, run_by(written, static=static), "onnx", 0).stepwise
    found = ONNX.read(written)
    equal(content, found)
    assert found.metadata == {"a": 1}
    assert ONNX.write(ONNX.read(ONNX.write(found))) == ONNX.write(found)


def test_directions_of_unequal_sizes() -> None:
    rng = np.random.default_rng(0)
    ends = (direction(rng, "gru", 2, 5), direction(rng, "gru", 2, 3))
    layers: list[Layer] = [Recurrent("rnn", "gru", ends), linear(rng, 8, 2)]
    written = ONNX.write(Content(layers))
    prove(saved(layers), layers, run_by(written), "onnx", 0)
    equal(Content(layers), ONNX.read(written))


def test_the_file_says_how_it_was_proved(tmp_path: Path) -> None:
    path = tmp_path / "amp.onnx"
    net = saved(amplifier(3, "gru"))
    metadata = {"samples": 48000, "onnx": {"author": "me"}}
    changed = type(net)(**{**vars(net), "metadata": metadata})
    proof = l0gate.export(changed, path)
    texts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert texts["l0gate.proof"] == str(proof)
    assert texts["author"] == "me"
    (state,) = json.loads(texts["l0gate.states"])
    assert (state["inputs"], state["outputs"], state["size"]) == (["h0_in"], ["h0_out"], 3)
    assert l0gate.import_(path).saved.metadata == metadata


def test_slopes_and_certificates_are_kept(tmp_path: Path) -> None:
    layers: list[Layer] = [
        *amplifier(3, "gru"),
        Other({"type": "activation", "function": "leaky_relu", "slope": 0.25}),
    ]
    net = saved(layers)
    certificate = Certificate(1e-7, 1e-6, 1.0, 3, net.kept, net.dense_sizes)
    path = tmp_path / "net.onnx"
    l0gate.export(type(net)(**{**vars(net), "certificate": certificate}), path)
    again = l0gate.import_(path)
    assert again.layers[-1]["slope"] == 0.25
    texts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert texts["l0gate.certificate"] == str(certificate)


def test_without_onnx_runtime_the_own_reader_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_format, "runtime_is_here", lambda: False)
    layers = amplifier(3)
    runner = run_by(ONNX.write(Content(layers)))
    assert runner.name == "l0gate's own reader of onnx"
    assert prove(saved(layers), layers, runner, "onnx", 0).max_abs_difference < 1e-6


def test_tokens_are_int64() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((5, 3)).astype("f4")
    cell = Recurrent("rnn", "lstm", (direction(rng, "lstm", 3, 4),))
    model = onnx.load_from_string(ONNX.write(Content([Embedding("e", table), cell])))
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
