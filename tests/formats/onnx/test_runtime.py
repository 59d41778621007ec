"""Running a written file in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier

import l0gate
from l0gate.formats import Content
from l0gate.formats._onnx.runtime import OnnxRunner, runtime_is_here
from l0gate.formats._onnx.writing import model_bytes


def test_steps_continue_from_the_states_that_a_call_returned() -> None:
    assert runtime_is_here()
    content = model_bytes(Content(amplifier(4)), static=False)
    runner = OnnxRunner(content, batch_first=False, static=False, stepwise=True)
    x = np.random.default_rng(0).standard_normal((9, 1)).astype(np.float32)
    steps = runner.steps(x)
    assert steps is not None
    np.testing.assert_allclose(steps, runner.sequence(x), atol=1e-6)
    assert np.abs(steps[1:] - runner.sequence(x[1:])).max() > 1e-3  # the state matters


def test_a_file_that_it_cannot_load() -> None:
    with pytest.raises(l0gate.L0GateError, match=r"ONNX Runtime .* cannot load"):
        OnnxRunner(b"nonsense", batch_first=False, static=False, stepwise=True)
