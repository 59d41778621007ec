"""`python -m l0gate.testing NAME`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from faulty_backends import installed

from l0gate.testing.__main__ import main


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "l0gate.testing", "numpy"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "22 passed, 0 failed, 4 not claimed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: python -m l0gate.testing .* NAME\n.* required: NAME"),
        (["numpy", "torch"], "usage: .* NAME\n.* unrecognized arguments: torch"),
        (["nunpy"], "`backend` is 'nunpy'"),
        (["numpy", "--only", "take"], "`only` names 'take'; the checks are check_description, "),
    ],
)
def test_arguments_of_the_module(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        sys.exit(main(arguments))
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert re.match(said, printed.err, re.DOTALL)
    assert not printed.out


def test_help_of_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m l0gate.testing [-h] [--only CHECK] [--traceback]")
    for said in (
        "print a table of the outcomes. Exit code: 0 if no check failed",
        "as in `l0gate backends list`",
        "run this check (repeatable)",
        "show where a check failed",
    ):
        assert said in " ".join(printed.split())


@pytest.fixture
def faulty() -> Iterator[str]:
    with installed() as name:
        yield name


def test_the_table_shows_the_reason(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([faulty]) == 1
    printed = capsys.readouterr().out
    assert "uniform returns 0.0; it must stay above 0" in printed
    assert printed.splitlines()[-1] == "21 passed, 1 failed, 4 not claimed"


def test_one_check_and_its_traceback(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--only", "check_take", "--only", "check_uniform_range"]
    assert main([faulty, "--only", "check_take"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 not claimed"
    assert main([faulty, *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == "1 passed, 1 failed, 0 not claimed"
    assert main([faulty, *chosen, "--traceback"]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "Traceback (most recent call last):" in lines
    assert any("_random.py" in line for line in lines)
    assert lines[-2] == "AssertionError: uniform returns 0.0; it must stay above 0"
