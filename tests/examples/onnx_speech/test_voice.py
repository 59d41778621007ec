"""The detector that stands for a user's ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scripts import modules_of


@pytest.fixture
def voice() -> Iterator[Any]:
    with modules_of("examples/onnx_speech") as load:
        yield load("voice")


def test_voices_are_louder_than_the_noise(voice: Any) -> None:
    x, present = voice.frames(np.random.default_rng(0), 500, 4)
    assert x.shape == (500, 4, voice.BANDS)
    loud = x.max(axis=-1, keepdims=True)
    assert loud[present == 1].mean() > loud[present == 0].mean()
    assert 0.2 < present.mean() < 0.8


def test_the_file_holds_the_model(voice: Any, tmp_path: Path) -> None:
    model = voice.train(2)
    voice.write(model, str(tmp_path / "voice.onnx"))
    x = voice.frames(np.random.default_rng(0), 30, 3)[0]
    session = onnxruntime.InferenceSession(tmp_path / "voice.onnx")
    (y,) = session.run(["voice"], {"frames": x})
    np.testing.assert_allclose(y, model(torch.from_numpy(x)).detach(), atol=1e-6)
