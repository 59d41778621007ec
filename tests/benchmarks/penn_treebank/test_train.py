"""The command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts import run


@pytest.mark.usefixtures("corpus")
def test_the_program(
    load: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(load("model").MODELS, "small", load("model").MODELS["tiny"])
    train, options = load("train"), ("--data", tmp_path, "--out", tmp_path / "out")
    assert run(train, monkeypatch, *options, "--method", "l0") == 2
    assert "either `--budget` or `--strength`" in capsys.readouterr().err
    sizes = ("--method", "direct", "--sizes", 4, 3, 5)
    assert run(train, monkeypatch, *options, *sizes) == 0
    path = tmp_path / "out" / "small-direct-4x3x5-seed1.json"
    assert f"written: {path}" in capsys.readouterr().out
    row = json.loads(path.read_text())
    assert row["sizes"] == [4, 3, 5]
    assert row["command"].startswith("python benchmarks/penn_treebank/train.py --data ")
    assert run(train, monkeypatch, *options, *sizes) == 0
    assert "is there already" in capsys.readouterr().out
