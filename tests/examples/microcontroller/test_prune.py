"""A Keras file is read, pruned, written as a header, compiled and run."""

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
    with modules_of("examples/microcontroller") as load:
        yield load


def test_a_keras_model_becomes_a_header(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    motion, prune = load("motion"), load("prune")
    source, target = str(tmp_path / "motion.keras"), str(tmp_path / "motion.h")
    motion.write(motion.train(3), source)
    run(prune, monkeypatch, source, target, "--steps", 20)
    told = capsys.readouterr().out
    assert "run by C, compiled by" in told
    assert "small, int8, in C:" in told
    assert "4,835 parameters in the Keras file" in told
    text = Path(target).read_text()
    assert "static const int8_t motion_0_u" in text
    assert "#define MOTION_INPUTS 3" in text


def test_the_program_prints_what_the_net_says(load: Any, tmp_path: Path) -> None:
    motion, prune = load("motion"), load("prune")
    motion.write(motion.train(3), str(tmp_path / "motion.keras"))
    net = l0gate.import_(tmp_path / "motion.keras")
    l0gate.export(net, tmp_path / "motion.h", name="motion")
    x, _ = motion.readings(np.random.default_rng(0), 1, 100)
    y, _ = net(x)
    expected = [motion.CLASSES[i] for i in y[0].argmax(axis=-1)]
    assert prune.classify(str(tmp_path / "motion.h"), x[0]) == expected


def test_without_a_compiler_nothing_is_run(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert load("prune").classify(str(tmp_path / "motion.h"), np.zeros((1, 3))) is None
