"""Jobs for the tests of the command line: a finished one, and some that are never run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_runs import TINY

from l0gate.cli._app import run
from l0gate.cli._text import Corpus, read_file
from l0gate.cli.commands import train


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run on the default text, by its folder."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l0gate.cli._speed.ROUNDS", 3)
        assert run(["train", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 8)
    return read_file(path)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SimpleNamespace]:
    """The jobs that `l0gate train` begins in this folder; none is run."""
    made: list[SimpleNamespace] = []

    class Job:
        def __init__(self, options: Any, corpus: Any, folder: Any, screen: Any, every: Any) -> None:
            self.all = SimpleNamespace(
                options=options, corpus=corpus, folder=folder, screen=screen, every=every
            )

        def run(self, resume: bool, twins: bool) -> dict[str, Any]:
            made.append(self.all)
            self.all.resume, self.all.twins = resume, twins
            return {"a": "report"}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "Job", Job)
    monkeypatch.setattr(train, "show_report", lambda console, report: None)
    return made
