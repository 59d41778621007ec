"""The program: exit codes, warnings, version, and what importing the library costs."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

import l0gate
from l0gate.cli._app import run, show_warning


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"l0gate {l0gate.__version__}"


def test_importing_the_library_does_not_import_the_command_line():
    code = "import sys, l0gate; print({'l0gate.cli', 'typer', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_warnings_are_one_line(
    jobs: list[SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back at the end
    assert run(["--version"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show_warning
        warnings.warn("the gates stalled", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "l0gate: warning: the gates stalled\n"


def test_arguments_come_from_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["l0gate", "--version"])
    assert run() == 0
    assert capsys.readouterr().out == f"l0gate {l0gate.__version__}\n"
    assert run(["no-such-command"]) == 2
    assert run(["train", "--no-such-option"]) == 2
