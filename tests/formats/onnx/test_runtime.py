"""Running a written file by ONNX Runtime, or without it."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier, saved

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.onnx_format import Onnx
from l0gate.formats._onnx.runtime import OnnxRunner
from l0gate.formats.runner import run_net


def test_without_onnx_runtime_the_file_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l0gate.formats._onnx.onnx_format.has_runtime", lambda: False)
    runner = Onnx().runner(Onnx().write(Content(amplifier())))
    assert runner.name == "l0gate's own reader of onnx"


@pytest.mark.parametrize("static", [False, True])
def test_steps_and_sequences(static: bool) -> None:
    written = Onnx().write(Content(amplifier()), static=static)
    runner = OnnxRunner(written, batch_first=False, static=static, streams=True)
    x = np.random.default_rng(0).standard_normal((12, 1)).astype(np.float32)
    expected = run_net(saved(amplifier()), x)
    np.testing.assert_allclose(runner.sequence(x), expected, atol=1e-6)
    steps = runner.steps(x)
    assert steps is not None
    np.testing.assert_allclose(steps, expected, atol=1e-6)


def test_a_file_that_it_refuses_is_told() -> None:
    with pytest.raises(l0gate.L0GateError, match=r"ONNX Runtime .* cannot load"):
        OnnxRunner(b"nonsense", batch_first=False, static=False, streams=True)
