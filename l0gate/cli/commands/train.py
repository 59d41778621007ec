"""`l0gate train`: its options; runs the job and prints its report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import l0gate
from l0gate._errors import L0GateError, check
from l0gate.cli import _text
from l0gate.cli._batches import steps_per_epoch
from l0gate.cli._folders import newest_run, next_run, prepare
from l0gate.cli._job import Job
from l0gate.cli._options import Options
from l0gate.cli._report_text import show_report
from l0gate.cli._screen import Screen
from l0gate.cli._signals import StoppedError

_STEPS = 2000
_BUDGET = "28%"


class Cell(str, Enum):
    """The recurrent cells that `--cell` takes."""

    lstm = "lstm"
    gru = "gru"


class Teacher(str, Enum):
    """The teachers that `--teacher` takes."""

    dense = "dense"
    none = "none"


class SizesCommand(TyperCommand):
    """A command whose option `--hidden` takes all numbers that follow it: `--hidden 256 256`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, join_sizes(args))


def train(
    text: Annotated[
        Path | None,
        typer.Option(help="A text file.", show_default="Python's own help topics"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of files named ...train..., ...valid..., ...test..."),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Tokens are words instead of characters.")
    ] = False,
    cell: Annotated[Cell, typer.Option(help="The recurrent cell.")] = Cell.lstm,
    hidden: Annotated[
        list[str],
        typer.Option(metavar="SIZE...", help="Hidden neurons, one size per layer."),
    ] = ["256"],  # noqa: B006
    embedding: Annotated[int, typer.Option(help="Neurons of the embedding.")] = 64,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Recurrent parameters that the small net may have: 20%, 0.2 or 150000.",
            show_default=_BUDGET,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="Instead of a budget: loss added per expected parameter, in nats."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="How neurons are chosen: see `l0gate methods list`.")
    ] = "l0",
    teacher: Annotated[
        Teacher,
        typer.Option(
            help="dense: train the dense net first, and give the gated net its outputs as soft"
            " targets beside the text."
        ),
    ] = Teacher.dense,
    backend: Annotated[str, typer.Option(help="numpy or torch.")] = "numpy",
    steps: Annotated[
        int | None, typer.Option(help="Training steps of each net.", show_default=str(_STEPS))
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Instead of steps: passes over the text.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Parallel streams of text.")] = 32,
    length: Annotated[int, typer.Option(help="Tokens per stream and step.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the weights and gates.")] = 0,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the weights.")] = 8e-3,
    gate_lr: Annotated[float, typer.Option(help="Learning rate of the gates.")] = 0.06,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="the next free runs/N"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out, or the newest run. Give the same options again.",
        ),
    ] = False,
    twins: Annotated[
        bool,
        typer.Option(
            help="For comparison, also train the dense net without gates (dense), and a net of"
            " the small sizes from scratch (direct). A teacher is trained in any case."
        ),
    ] = True,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
) -> None:
    """Train a language model with gates, shrink it, certify the small net and measure its speed."""
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
        teacher.value,
    )
    folder = out or (newest_run() if resume else next_run())
    prepare(folder, resume)
    try:
        report = Job(options, corpus, folder, screen, checkpoint_every).run(resume, twins)
    except L0GateError:
        with suppress(OSError):
            folder.rmdir()  # fails, as it should, where the job has written a file
        raise
    except (StoppedError, KeyboardInterrupt) as stopped:
        screen.say(
            f"{str(stopped) or 'stopped'}; the same command with --resume continues ({folder})"
        )
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from None
    screen.say("")
    show_report(screen.console, report)
    written = ", ".join(p.name for p in sorted(folder.iterdir()) if not p.name.startswith("."))
    screen.say(f"Written to {folder}: {written}. Write text with the net: l0gate sample {folder}")


def join_sizes(arguments: Iterable[str], option: str = "--hidden") -> list[str]:
    """The arguments, with all numbers after the option joined by commas into one argument.

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


def parse_sizes(given: Iterable[str]) -> tuple[int, ...]:
    """Hidden sizes from the values of `--hidden`, each with one or more numbers.

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
    return max(1, round(epochs * steps_per_epoch(tokens, batch, length)))
