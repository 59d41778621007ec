"""The commands and their options."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

import l0gate
from l0gate._errors import L0GateError, check
from l0gate._method import get_method
from l0gate._registry import L0, registry
from l0gate.cli import _checkpoint, _text
from l0gate.cli._job import MODEL, Job, check_folder
from l0gate.cli._options import Options
from l0gate.cli._report import read_report, show_report
from l0gate.cli._sample import sample as sample_tokens
from l0gate.cli._screen import Screen
from l0gate.cli._signals import StoppedError
from l0gate.cli._training import NotFiniteError

app = typer.Typer(
    name="l0gate",
    help="Learned gates that make LSTMs and GRUs smaller, with the same outputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
backends = typer.Typer(help="The backends that are installed.", no_args_is_help=True)
app.add_typer(backends, name="backends")
methods = typer.Typer(help="Ways to choose the neurons that stay.", no_args_is_help=True)
app.add_typer(methods, name="methods")

_RUNS = Path("runs")
_STYLES = {"passed": "green", "failed": "bold red", "not claimed": "dim"}
_STEPS = 2000
_BUDGET = "28%"


class Cell(str, Enum):
    """The recurrent cells on offer."""

    lstm = "lstm"
    gru = "gru"


class SizesCommand(TyperCommand):
    """`--hidden 256 256`: numbers that follow the option belong to it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, join_sizes(args))


def join_sizes(arguments: Iterable[str], option: str = "--hidden") -> list[str]:
    """Numbers after the option, joined by commas.

    >>> join_sizes(["--hidden", "256", "128", "--seed", "1"])
    ['--hidden', '256,128', '--seed', '1']
    """
    joined: list[str] = []
    taking = False
    for argument in arguments:
        if taking and argument.isdecimal() and joined[-1] != option:
            joined[-1] += f",{argument}"
        else:
            taking = argument == option or (taking and joined[-1] == option)
            joined.append(argument)
    return joined


def _version(wanted: bool) -> None:
    if wanted:
        print(f"l0gate {l0gate.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command(cls=SizesCommand)
def train(
    text: Annotated[
        Path | None,
        typer.Option(help="A text file.", show_default="Python's own help topics"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of files named ...train..., ...valid..., ...test..."),
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Words in place of characters.")] = False,
    cell: Annotated[Cell, typer.Option(help="The recurrent cell.")] = Cell.lstm,
    hidden: Annotated[
        list[str],
        typer.Option(metavar="SIZE...", help="Hidden neurons, one size per layer."),
    ] = ["256"],  # noqa: B006
    embedding: Annotated[int, typer.Option(help="Neurons of the embedding.")] = 64,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Recurrent parameters that may stay: 20%, 0.2 or 150000.",
            show_default=_BUDGET,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="In place of a budget: the loss per expected parameter, in nats."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="How neurons are chosen: see `l0gate methods list`.")
    ] = "l0",
    backend: Annotated[str, typer.Option(help="numpy or torch.")] = "numpy",
    steps: Annotated[
        int | None, typer.Option(help="Training steps of each net.", show_default=str(_STEPS))
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="In place of steps: passes over the text.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Parallel streams of text.")] = 32,
    length: Annotated[int, typer.Option(help="Tokens per stream and step.")] = 64,
    seed: Annotated[int, typer.Option(help="Of weights and gates.")] = 0,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the weights.")] = 8e-3,
    gate_lr: Annotated[float, typer.Option(help="Learning rate of the gates.")] = 0.06,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="the next free runs/N"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="With the same options: go on with the run in --out, or the newest."
        ),
    ] = False,
    twins: Annotated[
        bool, typer.Option(help="Train the dense net and one of the small sizes, to compare.")
    ] = True,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
) -> None:
    """Train a language model with gates, shrink it, prove it and measure it."""
    screen = Screen()
    screen.say(f"l0gate {l0gate.__version__}, backend {backend}")
    corpus = _corpus(text, data, words)
    _text.check_enough(corpus, max(batch, 1), max(length, 1))
    options = Options(
        cell.value,
        parse_sizes(hidden),
        embedding,
        _BUDGET if budget is None and strength is None else budget,
        strength,
        backend,
        _steps(steps, epochs, len(corpus.splits["train"]), batch, length),
        batch,
        length,
        seed,
        lr,
        gate_lr,
        method,
    )
    folder = out or (_newest() if resume else _next())
    check_folder(folder, resume)
    try:
        report = Job(options, corpus, folder, screen, checkpoint_every).run(resume, twins)
    except L0GateError:
        with suppress(OSError):
            folder.rmdir()  # if nothing was written, nothing stays
        raise
    except (StoppedError, KeyboardInterrupt) as stopped:
        screen.say(
            f"{str(stopped) or 'stopped'}; the same command with --resume goes on ({folder})"
        )
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from None
    screen.say("")
    show_report(screen.console, report)
    written = ", ".join(p.name for p in sorted(folder.iterdir()) if not p.name.startswith("."))
    screen.say(f"Written to {folder}: {written}. Read the small net aloud: l0gate sample {folder}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
) -> None:
    """Print the table of a finished run again."""
    show_report(Screen().console, read_report(run))


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    length: Annotated[int, typer.Option(help="Tokens to draw.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.7,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
) -> None:
    """Write text with the small net, streaming."""
    net = l0gate.load(run / MODEL)
    pieces = sample_tokens(net, prompt=prompt, length=length, temperature=temperature, seed=seed)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@backends.command("list")
def list_backends(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Backends by name: framework, distribution, capabilities, and what is wrong with them."""
    rows, problems = _backends()
    if as_json:
        print(json.dumps({"backends": rows, "problems": problems}, indent=2))
        return
    table = Table()
    for column in ("name", "framework", "installed", "from", "capabilities", "problem"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row["name"],
            row["framework"],
            "yes" if row["installed"] else "no",
            row["distribution"],
            ", ".join(row["capabilities"]),
            row["problem"] or "",
        )
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(problem, markup=False, highlight=False)


@methods.command("list")
def list_methods(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Methods by name: what they do, distribution, and what is wrong with them."""
    rows, problems = _methods()
    if as_json:
        print(json.dumps({"methods": rows, "problems": problems}, indent=2))
        return
    table = Table()
    for column in ("name", "chooses by", "from", "problem"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["name"], row["summary"], row["distribution"], row["problem"] or "")
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(problem, markup=False, highlight=False)


@backends.command("check")
def check_backend(
    name: Annotated[str, typer.Argument(help="As in `l0gate backends list`.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Run this check; give it more than once for several."),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where a check failed, not only why.")
    ] = False,
) -> None:
    """Run the conformance kit on a backend: what it keeps of its promises, and what it does not."""
    # Only here: the kit is not needed to train.
    from l0gate.testing import run_checks
    from l0gate.testing.__main__ import summary

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


def parse_sizes(given: Iterable[str]) -> tuple[int, ...]:
    """Hidden sizes from options, each with one or more numbers.

    >>> parse_sizes(["256,128"]), parse_sizes(["256", "128"])
    ((256, 128), (256, 128))
    """
    parts = [part for text in given for part in re.split(r"[,\s]+", text.strip())]
    for part in parts:
        check(
            part.isdecimal() and int(part) >= 1,
            f"`--hidden` is {','.join(parts)!r}; it must be whole numbers of at least 1, one per"
            " layer, as in --hidden 256 256",
        )
    return tuple(int(part) for part in parts)


def _corpus(text: Path | None, data: Path | None, words: bool) -> _text.Corpus:
    check(text is None or data is None, "give `--text` or `--data`, not both")
    if data is not None:
        return _text.read_folder(data, words)
    return _text.python_topics(words) if text is None else _text.read_file(text, words)


def _steps(steps: int | None, epochs: float | None, tokens: int, batch: int, length: int) -> int:
    check(steps is None or epochs is None, "give `--steps` or `--epochs`, not both")
    if epochs is None:
        return _STEPS if steps is None else steps
    check(0 < epochs < 1e6, f"`--epochs` is {epochs}; it must be above 0")
    return max(1, round(epochs * _text.steps_per_epoch(tokens, batch, length)))


def _numbered() -> list[Path]:
    """The folders runs/1, runs/2, ... in order."""
    found = _RUNS.iterdir() if _RUNS.is_dir() else []
    return sorted((p for p in found if p.name.isdecimal()), key=lambda p: int(p.name))


def _next() -> Path:
    found = _numbered()
    return _RUNS / str(int(found[-1].name) + 1 if found else 1)


def _newest() -> Path:
    runs = [path for path in _numbered() if (path / _checkpoint.FILE).exists()]
    check(runs, f"`--resume` found no run in '{_RUNS}'; name its folder with `--out`")
    return runs[-1]


def _methods() -> tuple[list[dict[str, Any]], list[str]]:
    """A row per method, and what the plugins got wrong; one that fails hurts no other."""
    gates = "Hard-concrete gates, trained with the weights."
    rows = [{"name": L0, "summary": gates, "distribution": "l0gate", "problem": None}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are listed below
        for name in registry.method_names()[1:]:
            row = {"name": name, "summary": "", "problem": None}
            row["distribution"] = registry.methods[name].distribution
            try:
                made = get_method(name)
                row["summary"] = (type(made).__doc__ or repr(made)).strip().partition("\n")[0]
            except L0GateError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows, registry.problems


def _backends() -> tuple[list[dict[str, Any]], list[str]]:
    """A row per backend, and what the plugins got wrong; one that fails hurts no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are listed below
        names = registry.names()
        rows = []
        for name in names:
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


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"l0gate: warning: {message}", file=sys.stderr)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on `sys.argv` or the given arguments; returns its exit code."""
    warnings.showwarning = _show_warning
    try:
        app(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    except L0GateError as error:
        print(f"l0gate: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotFiniteError) else 2
    return 0
