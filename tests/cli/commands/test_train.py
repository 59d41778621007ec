"""`l0gate train`: what its options become, what it prints, and how it ends."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import l0gate
from l0gate import L0GateError
from l0gate.cli._app import run
from l0gate.cli._batches import steps_per_epoch
from l0gate.cli._options import Options
from l0gate.cli._signals import StoppedError
from l0gate.cli._training import NotFiniteError
from l0gate.cli.commands import train
from l0gate.cli.commands.train import join_sizes, parse_sizes


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train.Job, "run", run)


def test_a_job_without_a_single_option(jobs: list[SimpleNamespace]) -> None:
    assert run(["train"]) == 0
    (job,) = jobs
    options = ("lstm", (256,), 64, "28%", None, "numpy", 2000, 32, 64, 0, 8e-3, 0.06)
    assert job.options == Options(*options)
    assert job.corpus.name == "Python's help topics"
    assert job.corpus.unit == "character"
    assert (job.folder, job.every, job.resume, job.twins) == (Path("runs/1"), 30.0, False, True)


def test_a_job_with_every_option(jobs: list[SimpleNamespace], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words and others " * 100)
    command = (
        "train --text text.txt --words --cell gru --hidden 6 5 --embedding 4 --strength 0.5"
        " --backend torch --steps 9 --batch 2 --length 3 --seed 8 --lr 0.5 --gate-lr 0.25"
        " --out here --no-twins --teacher none --checkpoint-every 5"
    )
    assert run(command.split()) == 0
    (job,) = jobs
    options = ("gru", (6, 5), 4, None, 0.5, "torch", 9, 2, 3, 8, 0.5, 0.25, "l0", "none")
    assert job.options == Options(*options)
    assert (job.corpus.name, job.corpus.unit) == ("text.txt", "word")
    assert (job.folder, job.every, job.resume, job.twins) == (Path("here"), 5.0, False, False)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "test"):
        (data / name).write_text("abc" * 1000)
    assert run(["train", "--data", "data", "--budget", "20%"]) == 0
    assert (jobs[1].corpus.name, jobs[1].options.budget) == ("data", "20%")
    assert jobs[1].corpus.unit == "character"
    for name in ("train", "test"):
        (data / name).write_text("a b c " * 1000)
    assert run(["train", "--data", "data", "--words"]) == 0
    assert jobs[2].corpus.unit == "word"


def test_a_teacher_that_is_none_of_them(
    jobs: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--teacher", "gated"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert all(word in error for word in ("--teacher", "'gated'", "'dense'", "'none'"))
    assert jobs == []


@pytest.mark.parametrize(("epochs", "steps"), [("2", 2 * 67), ("0.5", 34), ("0.001", 1)])
def test_epochs_are_counted_in_steps(
    epochs: str, steps: int, jobs: list[SimpleNamespace], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("ab" * 900)
    command = f"train --text text.txt --epochs {epochs} --batch 3 --length 8"
    assert steps_per_epoch(1620, 3, 8) == 67
    assert run(command.split()) == 0
    assert jobs[0].options.steps == steps


@pytest.mark.parametrize("epochs", ["0", "-1", "1e6", "nan"])
def test_epochs_that_are_none(
    epochs: str, jobs: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", f"--epochs={epochs}"]) == 2
    message = f"l0gate: `--epochs` is {float(epochs)}; it must be above 0\n"
    assert capsys.readouterr().err == message
    assert jobs == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--text a --data b", "give `--text` or `--data`, not both"),
        ("--steps 1 --epochs 1", "give `--steps` or `--epochs`, not both"),
        (
            "--hidden 5,x",
            "`--hidden` is '5,x'; it must be whole numbers of at least 1, one per layer, as in"
            " --hidden 256 256",
        ),
        ("--resume", "`--resume` found no run in 'runs'; name its folder with `--out`"),
    ],
)
def test_options_that_do_not_go_together(
    options: str,
    message: str,
    jobs: list[SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train", *options.split()]) == 2
    assert capsys.readouterr().err == f"l0gate: {message}\n"


def test_what_a_job_prints(
    jobs: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(train, "show_report", lambda console, report: shown.append(report))
    (tmp_path / "here").mkdir()
    for name in ("report.json", "model.npz", ".hidden"):
        (tmp_path / "here" / name).write_text("")
    assert run(["train", "--out", "here"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"l0gate {l0gate.__version__}, backend numpy",
        "",
        "Written to here: model.npz, report.json. Write text with the net: l0gate sample here",
    ]
    assert shown == [{"a": "report"}]


def test_how_a_job_ends(
    jobs: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending(monkeypatch, L0GateError("`--budget` is wrong"))
    assert run(["train", "--out", "here"]) == 2
    assert capsys.readouterr().err == "l0gate: `--budget` is wrong\n"
    assert not (tmp_path / "here").exists()  # nothing was written, so nothing stays
    ending(monkeypatch, NotFiniteError("the loss is nan"))
    assert run(["train", "--out", "here"]) == 1
    ending(monkeypatch, StoppedError(signal.SIGTERM, "gated", 7))
    assert run(["train", "--out", "here"]) == 143
    last = capsys.readouterr().out.splitlines()[-1]
    goes_on = "the same command with --resume continues (here)"
    assert last == f"stopped in the gated net after step 7; {goes_on}"
    ending(monkeypatch, KeyboardInterrupt())
    assert run(["train", "--out", "here"]) == 130
    assert capsys.readouterr().out.splitlines()[-1] == f"stopped; {goes_on}"


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        ("--hidden 256 128 --seed 1", ["--hidden", "256,128", "--seed", "1"]),
        ("--hidden 1 2 3 x 4", ["--hidden", "1,2,3", "x", "4"]),
        ("--hidden 1 --hidden 2 3", ["--hidden", "1", "--hidden", "2,3"]),
        ("--hidden=1 2", ["--hidden=1", "2"]),
        ("--hidden a 2", ["--hidden", "a,2"]),
        ("1 2", ["1", "2"]),
    ],
)
def test_numbers_after_an_option_belong_to_it(arguments: str, joined: list[str]) -> None:
    given = arguments.split()
    assert join_sizes(given) == joined
    assert join_sizes([a.replace("hidden", "wide") for a in given], "--wide") == [
        a.replace("hidden", "wide") for a in joined
    ]


def test_sizes() -> None:
    assert parse_sizes([" 7,5 3\t2"]) == (7, 5, 3, 2)
    assert parse_sizes(["1"]) == (1,)
    for wrong in ("0", "-1", "1.5", ""):
        with pytest.raises(L0GateError, match=r"^`--hidden` is"):
            parse_sizes([wrong])


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (["--hidden", "256", "256"], (256, 256)),
        (["--hidden", "256", "--hidden", "128"], (256, 128)),
        (["--hidden", "256,128", "64"], (256, 128, 64)),
        (["--hidden=256"], (256,)),
    ],
)
def test_hidden_sizes(given, sizes):
    joined = join_sizes([*given, "--seed", "1"])
    values = [a.removeprefix("--hidden=") for a in joined if a[0].isdigit() or "=" in a]
    assert parse_sizes(values[: len(values) - 1]) == sizes
