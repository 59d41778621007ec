"""Whole files: what torch exports, several outputs, given constants, damage."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from format_cases import amplifier
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import GRU, graph, node, random

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.reading import content_of
from l0gate.formats._onnx.writing import model_bytes
from l0gate.formats.assembly import assembled

DATA = Path(
    os.environ.get("L0GATE_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data"
)
NODES = DATA / "models" / "onnx_node"
EXACT = (
    *("test_gru_batchwise", "test_gru_defaults", "test_gru_seq_length"),
    *("test_gru_with_initial_bias", "test_lstm_batchwise", "test_lstm_defaults"),
    *("test_lstm_with_initial_bias", "test_rnn_seq_length", "test_simple_rnn_batchwise"),
    *("test_simple_rnn_defaults", "test_simple_rnn_with_initial_bias"),
)
ONE = {"one": np.array([1])}
CELL = [node("GRU", "x W R B", "Y"), node("Squeeze", "Y one", "y")]


def tensors(name: str, kind: str, values: Any) -> dict[str, np.ndarray]:
    folder = NODES / name / "test_data_set_0"
    files = [folder / f"{kind}_{k}.pb" for k in range(len(values))]
    arrays = [numpy_helper.to_array(TensorProto.FromString(f.read_bytes())) for f in files]
    return dict(zip([value.name for value in values], arrays, strict=True))


@pytest.mark.skipif(not NODES.is_dir(), reason=f"looked for the models of ONNX in {NODES}")
@pytest.mark.parametrize("name", EXACT)
def test_onnx_s_own_models_reproduce(name: str) -> None:
    """The tests of the operators: weights are inputs, outputs are Y and the last state."""
    path = NODES / name / "model.onnx"
    graph = onnx.load(path).graph
    given = tensors(name, "input", graph.input)
    x = given.pop("X")
    y, state = l0gate.import_(path, constants=given)(x)
    last = np.asarray(state[0][0] if isinstance(state[0], tuple) else state[0])
    for key, value in tensors(name, "output", graph.output).items():
        found = {"Y": y, "Y_h": last}[key]
        np.testing.assert_allclose(found.reshape(value.shape), value, atol=1e-6)


@pytest.mark.skipif(not NODES.is_dir(), reason=f"looked for the models of ONNX in {NODES}")
def test_peepholes_are_refused() -> None:
    path = NODES / "test_lstm_with_peepholes" / "model.onnx"
    given = tensors("test_lstm_with_peepholes", "input", onnx.load(path).graph.input)
    with pytest.raises(l0gate.L0GateError, match="peepholes"):
        l0gate.import_(path, constants={k: v for k, v in given.items() if k != "X"})


class Speech(torch.nn.Module):
    """A stack of GRU layers and a linear layer, as speech models end."""

    def __init__(self, batch_first: bool, both: bool, states: bool = False) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(5, 6, 2, batch_first=batch_first, bidirectional=both)
        self.out = torch.nn.Linear(12 if both else 6, 3)
        self.states = states

    def forward(self, x: torch.Tensor, h: torch.Tensor | None = None) -> Any:
        y, h = self.rnn(x, h)
        return (self.out(y), h) if self.states else self.out(y)


def exported(model: torch.nn.Module, path: Path, dynamo: bool, *args: torch.Tensor) -> str:
    names = ["x", "h"][: len(args)]
    target = str(path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(
                model, args, target, dynamo=True, external_data=False, input_names=names
            )
        else:
            torch.onnx.export(
                model,
                args,
                target,
                dynamo=False,
                input_names=names,
                dynamic_axes={"x": {0: "a", 1: "b"}},
            )
    return target


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(("batch_first", "both"), [(False, False), (True, False), (True, True)])
def test_torch_exports(tmp_path: Path, dynamo: bool, batch_first: bool, both: bool) -> None:
    torch.manual_seed(0)
    model = Speech(batch_first, both).eval()
    x = torch.randn(4, 7, 5)
    net = l0gate.import_(exported(model, tmp_path, dynamo, x))
    assert net.net.batch_first == batch_first
    y, _ = net(x.numpy())
    np.testing.assert_allclose(y, model(x).detach().numpy(), atol=1e-6)
    name = "gru" if dynamo else "rnn"  # the newer exporter keeps no names of modules
    assert net.parameters[f"{name}.weight_hh_l1"].shape == (18, 6)
    np.testing.assert_array_equal(net.parameters["out.bias"], model.out.bias.detach().numpy())


@pytest.mark.parametrize("dynamo", [False, True])
def test_torch_exports_with_states(tmp_path: Path, dynamo: bool) -> None:
    torch.manual_seed(0)
    model = Speech(False, False, states=True).eval()
    x, h = torch.randn(7, 4, 5), torch.randn(2, 4, 6)
    net = l0gate.import_(exported(model, tmp_path, dynamo, x, h))
    y, state = net(x.numpy(), tuple(h.numpy()))
    expected, last = model(x, h)
    np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(np.stack(state), last.detach().numpy(), atol=1e-6)


def test_weights_as_inputs_are_given() -> None:
    inputs = {"x": ["T", "B", 2], **{key: list(a.shape) for key, a in GRU.items()}}
    content = graph(CELL, ONE, inputs)
    with pytest.raises(l0gate.L0GateError, match=r"W \('W'\) is no constant.*`constants`"):
        content_of(content)
    (layer,) = content_of(content, GRU).layers
    np.testing.assert_array_equal(layer.directions[0].weight_hh[:3], GRU["R"][0, 3:6])  # type: ignore[union-attr]
    for wrong, message in (
        ({"Q": GRU["W"]}, "no input.*'Q'"),
        ({"W": np.array(["a"])}, r"`constants`\['W'\] has dtype"),
        ({"W": GRU["W"].astype(int)}, "of type int64"),
        ([1], "`constants` is list"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            content_of(content, wrong)  # type: ignore[arg-type]


def test_several_outputs_need_a_choice() -> None:
    nodes = [*CELL, node("Tanh", "y", "a"), node("MatMul", "y V", "b")]
    content = graph(nodes, {**GRU, **ONE, "V": random(3, 2)}, outputs=["a", "b"])
    with pytest.raises(l0gate.L0GateError, match=r"several outputs: 'a', 'b'.*`output`"):
        content_of(content)
    assert len(content_of(content, output="b").layers) == 2
    assert len(content_of(content, output="y").layers) == 1
    with pytest.raises(l0gate.L0GateError, match="no value 'c'"):
        content_of(content, output="c")


def test_one_step_without_axes_for_time_and_batch() -> None:
    """A file for one step: x (1, I), with axes that the graph adds."""
    nodes = [
        node("Unsqueeze", "x zero", "u"),
        node("GRU", "u W R B", "Y"),
        node("Squeeze", "Y one", "v"),
        node("Squeeze", "v zero", "y"),
    ]
    found = content_of(graph(nodes, {**GRU, **ONE, "zero": np.array([0])}, {"x": [1, 2]}))
    assert (len(found.layers), found.batch_first) == (1, False)


def own() -> onnx.ModelProto:
    return onnx.load_from_string(model_bytes(Content(amplifier(3)), static=False))


def test_every_truncation_is_an_error() -> None:
    content = own().SerializeToString()
    for end in range(0, len(content) - 1, 7):
        with pytest.raises(l0gate.L0GateError):
            content_of(content[:end])


def test_flipped_bytes_never_crash() -> None:
    content = np.frombuffer(own().SerializeToString(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = content.copy()
        changed[rng.integers(len(content), size=3)] = rng.integers(256, size=3)
        try:
            content_of(changed.tobytes())
        except l0gate.L0GateError:
            continue


def _changed(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Give an attribute, an input or an operator another value."""
    nodes = model.graph.node
    node = nodes[rng.integers(len(nodes))]
    way = rng.integers(4)
    if way == 0 and node.attribute:
        attribute = node.attribute[rng.integers(len(node.attribute))]
        values: list[Any] = [7, -7, 2**62, 1.5, "x", b"\xff", [9, -9], [0.5], ["x"]]
        value = values[rng.integers(len(values))]
        attribute.CopyFrom(helper.make_attribute(attribute.name, value))
    elif way == 1 and node.input:
        names = [tensor.name for tensor in model.graph.initializer] + ["", "x"]
        node.input[rng.integers(len(node.input))] = names[rng.integers(len(names))]
    elif way == 2 and node.input:
        node.input.pop()
    else:
        operators = [
            "Split",
            "Clip",
            "Gather",
            "Gemm",
            "Mul",
            "Add",
            "Elu",
            "Cast",
            "Shape",
            "Slice",
            "Concat",
            "Squeeze",
            "LSTM",
        ]
        node.op_type = operators[rng.integers(len(operators))]


def test_graphs_that_make_no_sense_never_crash(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = [
        own().SerializeToString(),
        Path(exported(Speech(True, True), tmp_path, False, torch.randn(4, 7, 5))).read_bytes(),
    ]
    for trial in range(1000):
        model = onnx.load_from_string(contents[trial % 2])
        for _ in range(rng.integers(1, 4)):
            _changed(model, rng)
        try:
            found = content_of(model.SerializeToString())
            assembled(found.layers, batch_first=found.batch_first)
        except l0gate.L0GateError:
            continue


def test_attributes_of_the_wrong_type() -> None:
    nodes = [*CELL[:1], node("Transpose", "Y", "y", perm=3)]
    with pytest.raises(l0gate.L0GateError, match="'perm' of the wrong type in Transpose"):
        content_of(graph(nodes, {**GRU, **ONE}))


def test_files_elsewhere_are_never_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))
    model = own()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(l0gate.L0GateError, match=r"`path`.*in another file, which is never opened"):
        l0gate.import_(path)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    wrong = {**GRU, "R": np.full_like(GRU["R"], np.nan)}
    path.write_bytes(graph(CELL, {**wrong, **ONE}))
    with pytest.raises(l0gate.L0GateError, match="numbers that are not finite"):
        l0gate.import_(path)


def test_sizes_without_data_take_no_memory() -> None:
    """A shape of 2^80 numbers, a constant of 2^60, and one that doubles with every node."""
    model = own()
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    with pytest.raises(l0gate.L0GateError, match="data for"):
        content_of(model.SerializeToString())
    nodes = [node("Expand", "one_f shape", "W"), *CELL]
    arrays = {"R": GRU["R"], "B": GRU["B"], "shape": np.array([2**30, 2**30]), **ONE}
    with pytest.raises(l0gate.L0GateError, match=r"W \('W'\) is no constant"):
        content_of(graph(nodes, {**arrays, "one_f": np.ones(1, np.float32)}))
    doubling = [node("Concat", f"W{k} W{k}", f"W{k + 1}", axis=0) for k in range(60)]
    with pytest.raises(l0gate.L0GateError, match="larger arrays than it holds"):
        content_of(graph([*doubling, *CELL], {**GRU, **ONE, "W0": GRU["W"]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.node.add(op_type="Tanh", input=["nothing"], output=["z"]), "reads .'nothing'"),
        (lambda g: g.ClearField("output"), "no output but states"),
        (lambda g: g.output.add(name="nothing"), "'nothing', which nothing writes"),
        (lambda g: g.sparse_initializer.add(), "sparse arrays"),
        (lambda g: setattr(g.node[-1], "domain", "com.example"), "com.example.Identity"),
    ],
)
def test_damaged_graphs(change: Any, message: str) -> None:
    model = own()
    change(model.graph)
    with pytest.raises(l0gate.L0GateError, match=message):
        content_of(model.SerializeToString())


def test_metadata_that_is_no_json() -> None:
    model = own()
    helper.set_model_props(model, {"l0gate.metadata": "[" * 10**6})
    with pytest.raises(l0gate.L0GateError, match="nested too deeply"):
        content_of(model.SerializeToString())
