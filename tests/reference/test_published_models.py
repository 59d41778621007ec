"""Models and test vectors of other projects reproduce through `reference`.

The data lies outside the repository: in the folder that L0GATE_DATA names, else beside it in
`../shared/data`. Foreign layouts are converted here; the library knows PyTorch's only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from reference_cases import ENGINES

from l0gate.reference import Net

DATA = Path(
    os.environ.get("L0GATE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
)
ONNX, RTNEURAL = DATA / "models" / "onnx_node", DATA / "models" / "rtneural"


def needs(folder: Path) -> Any:
    return pytest.mark.skipif(
        not folder.is_dir(),
        reason=f"looked for the data in {folder}; set L0GATE_DATA to the folder that has it",
    )


def _blocks(array: np.ndarray, order: list[int]) -> np.ndarray:
    """Reorder the gate blocks of the first dimension."""
    return np.concatenate([np.split(array, len(order))[block] for block in order])


# --- ONNX operator tests: LSTM blocks i, o, f, c and GRU blocks z, r, h ---------------------------

ONNX_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
ONNX_CASES = [
    "test_gru_batchwise",
    "test_gru_defaults",
    "test_gru_seq_length",
    "test_gru_with_initial_bias",
    "test_lstm_batchwise",
    "test_lstm_defaults",
    "test_lstm_with_initial_bias",
]


def _tensors(folder: Path, kind: str) -> list[np.ndarray]:
    files = sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


@needs(ONNX)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ONNX_CASES)
def test_onnx_operator(case: str, engine: str) -> None:
    node = onnx.load(ONNX / case / "model.onnx").graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = dict(zip(node.input, _tensors(ONNX / case, "input"), strict=True))
    outputs = dict(
        zip([name for name in node.output if name], _tensors(ONNX / case, "output"), strict=True)
    )
    assert set(attributes) <= {"hidden_size", "layout", "linear_before_reset"}
    assert set(inputs) <= {"X", "W", "R", "B"}

    layer = {"type": node.op_type.lower(), "name": "", "bias": "B" in inputs}
    if node.op_type == "GRU":
        layer["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    net = Net([layer], batch_first=bool(attributes.get("layout", 0)))
    biases = np.split(inputs["B"][0], 2) if "B" in inputs else []
    parameters = {
        name: _blocks(array, ONNX_ORDER[node.op_type])
        for name, array in zip(
            net.parameter_names, [inputs["W"][0], inputs["R"][0], *biases], strict=True
        )
    }
    y, (last,) = net.apply(parameters, inputs["X"], engine=engine)
    h = last[0] if node.op_type == "LSTM" else last
    if net.batch_first:  # ONNX puts the directions before the hidden neurons, after the batch
        found = {"Y": y[:, :, None], "Y_h": h[:, None]}
    else:
        found = {"Y": y[:, None], "Y_h": h[None]}
    for name, expected in outputs.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)


# --- RTNeural: Keras models, kernels stored in -> (4 h), and PyTorch models -----------------------

KERAS_ORDER = {"lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}  # i f c o is PyTorch's i f g o; z r h


def _keras(path: Path) -> tuple[Net, dict[str, np.ndarray]]:
    layers: list[dict[str, Any]] = []
    parameters: dict[str, np.ndarray] = {}
    for index, layer in enumerate(json.loads(path.read_text())["layers"]):
        kind, name = layer["type"], f"layer{index}"
        kernel, *rest = (np.array(weight, np.float32) for weight in layer["weights"])
        if kind in KERAS_ORDER:
            order = KERAS_ORDER[kind]
            recurrent, bias = rest
            described: dict[str, Any] = {"type": kind, "name": name}
            if kind == "gru":
                described["reset_after"] = bias.ndim == 2
            biases = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
            layers.append(described)
            arrays = [kernel.T, recurrent.T, *biases]
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            parameters |= {
                f"{name}.{n}": _blocks(a, order) for n, a in zip(names, arrays, strict=True)
            }
            continue
        assert kind in ("dense", "time-distributed-dense")
        layers.append({"type": "linear", "name": name})
        parameters |= {f"{name}.weight": kernel.T, f"{name}.bias": rest[0]}
        if layer["activation"]:
            layers.append({"type": "activation", "function": layer["activation"]})
    return Net(layers), parameters


def _pytorch(path: Path) -> tuple[Net, dict[str, np.ndarray]]:
    stored = json.loads(path.read_text())
    parameters = {name: np.array(values, np.float32) for name, values in stored.items()}
    kind = path.stem.removesuffix("_torch")
    layers = [
        {"type": kind, "name": kind},
        {"type": kind, "name": f"{kind}2", "num_layers": 3},
        {"type": "linear", "name": "dense"},
    ]
    net = Net(layers)
    assert set(net.parameter_names) == set(parameters)
    return net, parameters


@needs(RTNEURAL)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["lstm", "lstm_1d", "gru", "gru_1d", "lstm_torch", "gru_torch"])
def test_rtneural_model(name: str, engine: str) -> None:
    read = _pytorch if name.endswith("_torch") else _keras
    net, parameters = read(RTNEURAL / "models" / f"{name}.json")
    x, expected = (
        np.loadtxt(RTNEURAL / "test_data" / f"{name}_{side}_python.csv", dtype=np.float32)
        for side in "xy"
    )
    y, _ = net.apply(parameters, x[:, None, None], engine=engine)
    np.testing.assert_allclose(y[:, 0, 0], expected, rtol=1e-4, atol=1e-6)

    bound, state = net.bind(parameters, engine=engine), None
    for t, sample in enumerate(x[:100]):
        y_t, state = bound.step(np.array([sample]), state)
        np.testing.assert_allclose(y_t[0], expected[t], rtol=1e-4, atol=1e-6)
