"""`l0gate methods`: the list."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from cli_runs import registered

from l0gate import hookimpl
from l0gate._registry import registry
from l0gate.cli._app import run
from l0gate.cli.commands.methods import installed_methods
from l0gate.methods import Random


class Methods:
    """A method that works, with and without words, and one that does not."""

    @hookimpl
    def l0gate_methods(self) -> list[dict[str, Any]]:
        def explode() -> Any:
            raise RuntimeError("no such criterion")

        class Silent(Random):
            pass

        class Told(Random):
            """Draws lots.

            In more than one line.
            """

        return [
            {"name": "silent", "factory": Silent},
            {"name": "told", "factory": Told},
            {"name": "broken", "factory": explode},
        ]


def test_the_list_of_methods(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(Methods(), monkeypatch):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows, problems = installed_methods()
        assert run(["methods", "list", "--json"]) == 0
        shown = capsys.readouterr().out
        assert shown == json.dumps({"methods": rows, "problems": problems}, indent=2) + "\n"
        assert run(["methods", "list"]) == 0
        table = capsys.readouterr().out
    assert problems[-1] == "plugin x: is [b]wrong[/b]"
    names = [row["name"] for row in rows]
    assert names == ["l0", *registry.method_names()[1:], "silent", "told", "broken"]
    assert rows[0] == {
        **{"name": "l0", "summary": "Hard-concrete gates, trained with the weights."},
        **{"distribution": "l0gate", "problem": None},
    }
    by_name = {row["name"]: row for row in rows}
    own = {"distribution": "a-dist", "problem": None}
    assert by_name["told"] == {"name": "told", "summary": "Draws lots.", **own}
    assert by_name["silent"] == {"name": "silent", "summary": "Silent(seed=0)", **own}
    assert "no such criterion" in by_name["broken"].pop("problem")
    assert by_name["broken"] == {"name": "broken", "summary": "", "distribution": "a-dist"}
    for row in rows:
        assert f"{row['name']} " in table
        assert row["summary"] in table
