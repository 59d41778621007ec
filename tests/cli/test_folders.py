"""Where runs are written, and which folders are refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_runs import TINY

from l0gate import L0GateError
from l0gate.cli._app import run
from l0gate.cli._folders import CHECKPOINT, prepare, remove_partial_checkpoints


def test_the_folder_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    prepare(folder, resume=False)
    assert list(folder.iterdir()) == []
    prepare(folder, resume=False)
    with pytest.raises(L0GateError) as error:
        prepare(folder, resume=True)
    assert str(error.value) == f"`--resume`: '{folder}' holds no checkpoint"
    (folder / "checkpoint.npz").write_text("")
    (folder / ".checkpoint.npz.x1").write_text("")
    with pytest.raises(L0GateError) as error:
        prepare(folder, resume=False)
    assert str(error.value) == (
        f"`--out` '{folder}' holds a run already; go on with it by `--resume`, or choose another"
        " folder"
    )
    prepare(folder, resume=True)
    assert [path.name for path in folder.iterdir()] == ["checkpoint.npz"]
    with pytest.raises(L0GateError) as error:
        prepare(folder / "checkpoint.npz", resume=False)
    assert (
        str(error.value) == f"`--out` '{folder / 'checkpoint.npz'}' cannot be written: File exists"
    )

    def denied(dir: Path) -> Any:
        raise PermissionError(13, f"Permission denied in {dir.name}")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    with pytest.raises(L0GateError) as error:
        prepare(folder, resume=False)
    assert str(error.value) == f"`--out` '{folder}' cannot be written: Permission denied in b"


def test_only_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".{CHECKPOINT}.x1y2"
    for path in (left, tmp_path / CHECKPOINT, tmp_path / ".other"):
        path.write_text("")
    remove_partial_checkpoints(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {CHECKPOINT, ".other"}


def test_where_runs_live(jobs: list[SimpleNamespace], tmp_path: Path) -> None:
    for name in ("1", "2", "10", "old", "3.5"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert run(["train"]) == 0
    assert jobs[-1].folder == Path("runs/11")
    # The newest of those that can go on, by number.
    for name in ("1", "2", "10", "old"):
        (tmp_path / "runs" / name / "checkpoint.npz").write_text("")
    assert run(["train", "--resume"]) == 0
    assert jobs[-1].folder == Path("runs/10")
    assert jobs[-1].resume
    assert run(["train", "--resume", "--out", "runs/2"]) == 0
    assert jobs[-1].folder == Path("runs/2")


def test_folders_are_numbered(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in ("1", "2"):
        assert run(["train", "--text", str(text), *TINY, "--no-twins"]) == 0
        assert (tmp_path / "runs" / number / "report.json").exists()


def test_folder_that_cannot_be_written(text, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert run(["train", "--text", str(text), *TINY, "--out", str(file / "run")]) == 2
    assert f"`--out` '{file / 'run'}' cannot be written" in capsys.readouterr().err


def test_a_run_is_not_overwritten(finished, capsys):
    assert run(["train", *TINY, "--out", str(finished)]) == 2
    assert "holds a run already" in capsys.readouterr().err
