"""The ONNX model, beyond what the runtimes compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_state_carries_a_sequence_on(load: Any, cell: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    spec = load("_nets").Spec(cell, 3, (5, 4))
    model = load("_onnx").onnx_model(spec, spec.parameters(), with_state=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = spec.x(6, 2)
    state = {i.name: np.zeros((1, 2, i.shape[2]), np.float32) for i in session.get_inputs()[1:]}
    after = [output.name for output in session.get_outputs() if output.name != "y"]
    outputs = []
    for part in (x[:2], x[2:]):
        y, *states = session.run(["y", *after], {"x": part, **state})
        state = {
            name.replace("after", "before"): array
            for name, array in zip(after, states, strict=True)
        }
        outputs.append(y[:, 0])
    expected, _ = spec.net().apply(spec.parameters(), x, engine="numpy")
    np.testing.assert_allclose(np.concatenate(outputs), expected, rtol=1e-4, atol=1e-6)
