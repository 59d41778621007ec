"""The program `l0gate`: its commands, and how it reports their errors and warnings."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

import l0gate
from l0gate._errors import L0GateError
from l0gate.cli._training import NotFiniteError
from l0gate.cli.commands import backends, formats, methods
from l0gate.cli.commands.export import export, import_file
from l0gate.cli.commands.report import report
from l0gate.cli.commands.sample import sample
from l0gate.cli.commands.train import SizesCommand, train

app = typer.Typer(
    name="l0gate",
    help="Learned gates that make LSTMs and GRUs smaller, with the same outputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=SizesCommand)(train)
app.command()(report)
app.command()(sample)
app.command()(export)
app.command("import")(import_file)
app.add_typer(backends.app, name="backends")
app.add_typer(methods.app, name="methods")
app.add_typer(formats.app, name="formats")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"l0gate {l0gate.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of every command."""


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line on standard error, without the line of code that raised it."""
    print(f"l0gate: warning: {message}", file=sys.stderr)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on `sys.argv`, or on the given arguments, and return the exit code.

    0: done. 1: the training diverged, or a backend failed a check. 2: bad input.
    """
    warnings.showwarning = show_warning
    try:
        app(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    except L0GateError as error:
        print(f"l0gate: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotFiniteError) else 2
    return 0
