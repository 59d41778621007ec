"""The conformance kit from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from faulty_backends import (
    UniformReachesTheEnds,
)

from l0gate import hookimpl
from l0gate._registry import registry
from l0gate.cli._app import run
from l0gate.testing import (
    Outcome,
)
from l0gate.testing.__main__ import main, table


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
        "Print the table; 0 if nothing failed",
        "as in `l0gate backends list`",
        "run this check (repeatable)",
        "show where a check failed",
    ):
        assert said in " ".join(printed.split())


def test_the_table_of_the_module() -> None:
    outcomes = [
        Outcome("check_short", "It is.", "passed"),
        Outcome("check_longer", "It does.", "failed", "one line\nand another"),
        Outcome("check_none", "It can.", "not claimed"),
    ]
    assert table(outcomes).splitlines() == [
        "check_short   passed       It is.",
        "check_longer  failed       It does.",
        "              one line",
        "              and another",
        "check_none    not claimed  It can.",
        "1 passed, 1 failed, 1 not claimed",
    ]


@pytest.fixture
def faulty() -> Iterator[str]:
    class Faulty(UniformReachesTheEnds):
        name = "faulty"

    class Plugin:
        @hookimpl
        def l0gate_backends(self) -> list[dict[str, Any]]:
            return [{"name": "faulty", "module": "numpy", "factory": Faulty}]

    registry.register(Plugin(), "a faulty one")
    yield "faulty"
    registry.unregister("a faulty one")


def test_the_tables_show_the_reason(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([faulty]) == 1
    printed = capsys.readouterr().out
    assert "uniform returns 0.0; it must stay above 0" in printed
    assert printed.splitlines()[-1] == "21 passed, 1 failed, 4 not claimed"
    assert run(["backends", "check", faulty]) == 1
    printed = capsys.readouterr().out
    assert "it must stay above 0" in " ".join(printed.replace("│", " ").split())
    assert "21 passed, 1 failed, 4 not claimed" in printed
    assert run(["backends", "check", "numpy"]) == 0
    assert "22 passed, 0 failed, 4 not claimed" in capsys.readouterr().out
    assert run(["backends", "check", "nunpy"]) == 2
    assert "`backend` is 'nunpy'" in capsys.readouterr().err


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
    assert run(["backends", "check", faulty, *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert "check_values" not in printed
    assert run(["backends", "check", faulty, *chosen, "--traceback"]) == 1
    printed = capsys.readouterr().out
    assert "\nTraceback (most recent call last):\n" in printed
    assert "\nAssertionError: uniform returns 0.0; it must stay above 0\n1 passed" in printed
    assert run(["backends", "check", faulty, "--only", "take"]) == 2
    assert "`only` names 'take'; the checks are" in capsys.readouterr().err
