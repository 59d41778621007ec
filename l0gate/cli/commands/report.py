"""`l0gate report`: print the table of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l0gate.cli._report_file import read_report
from l0gate.cli._report_text import show_report
from l0gate.cli._screen import Screen


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
) -> None:
    """Print the table of a finished run again."""
    show_report(Screen().console, read_report(run))
