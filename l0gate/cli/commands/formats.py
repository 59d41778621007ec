"""`l0gate formats`: list the file formats that nets are exported to and imported from."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer

from l0gate._errors import L0GateError
from l0gate._registry import registry
from l0gate.cli._listing import show_listing

app = typer.Typer(help="File formats of other programs.", no_args_is_help=True)

# Heading: the key of a row whose value stands below it.
_COLUMNS = {
    "name": "name",
    "files": "suffixes",
    "can": "does",
    "cells": "cells",
    "also holds": "holds",
    "problem": "problem",
}


@app.command("list")
def list_formats(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Formats by name: their files, whether l0gate reads and writes them, and what they hold."""
    rows, problems = installed_formats()
    broken = any(row["problem"] for row in rows)
    columns = _COLUMNS if broken else {k: v for k, v in _COLUMNS.items() if k != "problem"}
    show_listing("formats", rows, problems, columns, as_json)


def installed_formats() -> tuple[list[dict[str, Any]], list[str]]:
    """A row per format, and the problems of plugins. A broken format does not hide the others."""
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the listing shows what they say
        for name in registry.format_names():
            entry = registry.formats[name]
            row: dict[str, Any] = dict.fromkeys(("suffixes", "does", "cells", "holds", "problem"))
            row |= {"name": name, "distribution": entry.distribution}
            try:
                found = entry.make()
                row["suffixes"] = list(found.suffixes)
                row["does"] = [
                    w for w, able in (("read", found.reads), ("write", found.writes)) if able
                ]
                row["cells"] = found.holds.get("cells", "")
                row["holds"] = [words for key, words in _WORDS.items() if found.holds.get(key)]
                row |= {"summary": found.summary, "reader": found.reader}
                row["options"] = sorted(found.options)
            except (L0GateError, AttributeError) as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows, registry.problems


_WORDS = {
    "unequal": "unequal sizes",
    "bidirectional": "two directions",
    "embedding": "embedding",
    "selection": "pruned inputs",
}
