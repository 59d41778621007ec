"""The tables of installed backends and methods."""

from __future__ import annotations

import json
from typing import Any

import pytest

from l0gate.cli._listing import show_listing

ROWS = [
    {"name": "one", "usable": True, "can": ["a", "b"], "problem": None},
    {"name": "two", "usable": False, "can": [], "problem": "it is broken"},
]
COLUMNS = {"name": "name", "works": "usable", "offers": "can", "problem": "problem"}


def listed(capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    given = {"kind": "things", "rows": ROWS, "problems": ["[b]x[/b]"], "columns": COLUMNS}
    show_listing(**{**given, "as_json": False, **options})
    return capsys.readouterr().out


def test_a_table_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys).splitlines()
    cells = [[c.strip() for c in line.strip("┃│").split("┃│"[line[0] == "│"])] for line in lines]
    rows = [row for row in cells if len(row) == 4]
    assert rows == [
        ["name", "works", "offers", "problem"],
        ["one", "yes", "a, b", ""],
        ["two", "no", "", "it is broken"],
    ]
    assert lines[-1] == "[b]x[/b]"  # what a plugin says is no markup


def test_json_has_the_rows_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(listed(capsys, as_json=True))
    assert content == {"things": ROWS, "problems": ["[b]x[/b]"]}
