"""An ONNX file is read, pruned, written and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import modules_of, run

import l0gate


@pytest.fixture
def load() -> Iterator[Any]:
    with modules_of("examples/onnx_speech") as load:
        yield load


def test_an_onnx_model_is_pruned_and_streams(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, prune = load("voice"), load("prune")
    source, target = str(tmp_path / "voice.onnx"), str(tmp_path / "small.onnx")
    voice.write(voice.train(10), source)
    run(prune, monkeypatch, source, target, "--steps", 20, "--keep", 0.4)
    told = capsys.readouterr().out
    assert "run by ONNX Runtime" in told
    assert "small:" in told

    dense, small = l0gate.import_(source), l0gate.import_(target)
    count = [sum(a.size for a in net.parameters.values()) for net in (dense, small)]
    assert count[1] <= 0.4 * count[0]
    x = voice.frames(np.random.default_rng(3), 50, 1)[0]
    stream = prune.Stream(target)
    steps = np.array([stream.step(frame) for frame in x[:, 0]])
    np.testing.assert_allclose(steps, small(x)[0][:, 0], atol=1e-5)
