"""Bad options, texts and folders end in exit code 2 and a message that names them."""

from __future__ import annotations

import pytest
from cli_runs import TINY

from l0gate.cli._app import run

BAD = {
    "budget of 0": (["--budget", "0"], ["`--budget` is '0'", "20%"]),
    "budget of 0%": (["--budget", "0%"], ["`--budget` is '0%'", "above 0"]),
    "negative budget": (["--budget=-5%"], ["`--budget` is '-5%'", "above 0"]),
    "budget above 1": (["--budget", "150%"], ["`--budget` is '150%'", "at most 100%"]),
    "fraction above 1": (["--budget", "1.5"], ["`--budget` is '1.5'", "at most 100%"]),
    "budget in words": (["--budget", "half"], ["`--budget` is 'half'"]),
    "budget nan": (["--budget", "nan"], ["`--budget` is 'nan'"]),
    "budget below with one neuron left per axis": (
        ["--budget", "3"],
        ["`--budget`", "with one neuron left per axis"],
    ),
    "budget and strength": (["--budget", "20%", "--strength", "1"], ["`--budget` or `--strength`"]),
    "negative strength": (["--strength=-1"], ["`--strength` is -1.0", "at least 0"]),
    "no hidden neurons": (["--hidden", "0"], ["`--hidden` is '0'", "at least 1"]),
    "hidden in words": (["--hidden", "many"], ["`--hidden` is 'many'"]),
    "no steps": (["--steps", "0"], ["`--steps` is 0", "at least 1"]),
    "steps and epochs": (["--steps", "3", "--epochs", "1"], ["`--steps` or `--epochs`"]),
    "no epochs": (["--epochs", "0"], ["`--epochs` is 0"]),
    "rate of 0": (["--lr", "0"], ["`--lr` is 0.0", "above 0"]),
    "negative seed": (["--seed=-1"], ["`--seed` is -1", "at least 0"]),
    "unknown backend": (["--backend", "nunpy"], ["`--backend`", "'nunpy'", "'numpy', 'torch'"]),
    "text and data": (["--text", "a", "--data", "b"], ["`--text` or `--data`"]),
    "missing text": (["--text", "nowhere.txt"], ["`--text`", "'nowhere.txt'", "No such file"]),
    "missing folder": (["--data", "nowhere"], ["`--data` is 'nowhere'", "folder"]),
    "nothing to resume": (["--out", "fresh", "--resume"], ["`--resume`", "'fresh'", "checkpoint"]),
    "no run to resume": (["--resume"], ["`--resume`", "--out"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_bad_options(options, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *options]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"abc\0def" * 100, "is a binary file (it holds NUL bytes)"),
        (b"abc\xff" * 100, "byte 3 is 0xff"),
        (b"too short", "it needs at least 27 for one batch (`--batch` 3, `--length` 8)"),
    ],
)
def test_bad_texts(content, part, tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert run(["train", "--text", str(path), *TINY, "--out", str(tmp_path / "run")]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["a.train.txt"], ["'test'", "found: none"]),
        (["train.txt", "my.train.txt", "test.txt"], ["'train'", "found: my.train.txt, train.txt"]),
    ],
)
def test_bad_folders(files, parts, tmp_path, capsys):
    for name in files:
        (tmp_path / name).write_text("some words\n")
    assert run(["train", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
