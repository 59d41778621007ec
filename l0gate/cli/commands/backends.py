"""`l0gate backends`: list the installed backends, and check one with the conformance kit."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import l0gate
from l0gate._errors import L0GateError
from l0gate._registry import registry
from l0gate.cli._listing import show_listing

app = typer.Typer(help="The backends that are installed.", no_args_is_help=True)

_STYLES = {"passed": "green", "failed": "bold red", "not claimed": "dim"}
# Heading: the key of a row whose value stands below it.
_COLUMNS = {
    "name": "name",
    "framework": "framework",
    "installed": "installed",
    "from": "distribution",
    "capabilities": "capabilities",
    "problem": "problem",
}


@app.command("list")
def list_backends(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Backends by name: framework, distribution, capabilities and problems."""
    show_listing("backends", *installed_backends(), _COLUMNS, as_json)


@app.command("check")
def check_backend(
    name: Annotated[str, typer.Argument(help="A name from `l0gate backends list`.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Run this check; give it more than once for several."),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where a check failed, not only why.")
    ] = False,
) -> None:
    """Run the conformance kit on a backend: which promises it keeps, and which it breaks."""
    # Imported here, because no other command needs the kit.
    from l0gate.testing import run_checks
    from l0gate.testing._outcome import summary

    outcomes = run_checks(l0gate.get_backend(name), only or ())
    table = Table("check", "result", "what broke which promise")
    for outcome in outcomes:
        reason = f"{outcome.promise}\n{outcome.reason}" if outcome.result == "failed" else ""
        style = _STYLES[outcome.result]
        table.add_row(outcome.name, Text(outcome.result, style=style), Text(reason))
    console = Console()
    console.print(table)
    for outcome in outcomes if traceback else ():
        print(outcome.traceback(), end="")
    console.print(summary(outcomes), highlight=False)
    if any(outcome.result == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def installed_backends() -> tuple[list[dict[str, Any]], list[str]]:
    """A row per backend, and the problems of plugins. A broken backend does not hide the others."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the listing shows what they say
        for name in registry.names():
            entry = registry.entries[name]
            installed = importlib.util.find_spec(entry.module) is not None
            capabilities: list[str] = []
            problem = None if installed else f"{entry.module} is not installed"
            if installed:
                try:
                    capabilities = sorted(registry.by_name(name).capabilities)
                except L0GateError as error:
                    problem = str(error)
            rows.append(
                {
                    "name": name,
                    "framework": entry.module,
                    "installed": installed,
                    "distribution": entry.distribution,
                    "capabilities": capabilities,
                    "problem": problem,
                }
            )
    return rows, registry.problems
