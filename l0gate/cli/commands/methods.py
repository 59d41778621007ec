"""`l0gate methods`: list the installed ways to choose the neurons that are kept."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer

from l0gate._errors import L0GateError
from l0gate._method import get_method
from l0gate._registry import registry
from l0gate.cli._listing import show_listing

app = typer.Typer(help="Ways to choose the neurons that are kept.", no_args_is_help=True)

# Heading: the key of a row whose value stands below it.
_COLUMNS = {"name": "name", "chooses by": "summary", "from": "distribution", "problem": "problem"}


@app.command("list")
def list_methods(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Methods by name: what they choose by, their distribution and their problems."""
    show_listing("methods", *installed_methods(), _COLUMNS, as_json)


def installed_methods() -> tuple[list[dict[str, Any]], list[str]]:
    """A row per method, and the problems of plugins. A broken method does not hide the others."""
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the listing shows what they say
        for name in registry.method_names():
            entry = registry.methods.get(name)  # None for hard-concrete gates
            row: dict[str, Any] = {"name": name, "summary": "", "problem": None}
            row["distribution"] = "l0gate" if entry is None else entry.distribution
            try:
                method = get_method(name)
                row["summary"] = (type(method).__doc__ or repr(method)).strip().partition("\n")[0]
            except L0GateError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows, registry.problems
