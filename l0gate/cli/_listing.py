"""The tables of `l0gate backends list` and `l0gate methods list`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def show_listing(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    columns: Mapping[str, str],
    as_json: bool,
) -> None:
    """Print the rows as a table, or as JSON with the key `kind`; then the problems of plugins.

    `columns` maps the heading of each column to the key of a row whose value stands below it.
    """
    if as_json:
        print(json.dumps({kind: rows, "problems": problems}, indent=2))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns.values()))
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(problem, markup=False, highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return value or ""
