"""`l0gate formats list`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_runs import registered

from l0gate import hookimpl
from l0gate.cli._app import run
from l0gate.cli.commands.formats import installed_formats
from l0gate.formats._builtin import l0gate_formats


class Broken:
    @hookimpl
    def l0gate_formats(self) -> list[dict[str, Any]]:
        return [{"name": "broken", "factory": dict}]


def test_every_format_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["formats", "list", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["formats"]}
    assert {d["name"] for d in l0gate_formats()} <= set(found)
    assert found["nam"]["does"] == ["read", "write"]
    assert found["keras-h5"]["does"] == ["read"]
    assert run(["formats", "list"]) == 0
    assert "rtneural" in capsys.readouterr().out


def test_a_broken_format_is_told_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with registered(Broken(), monkeypatch):
        rows, _ = installed_formats()
    problems = {row["name"]: row["problem"] for row in rows}
    assert problems["broken"]
    assert problems["nam"] is None
