"""The quick version: three of bAbI's tasks with GRU readers, pruned to a quarter.

    python examples/reading/babi.py --data DIR [--tasks 1 6 15] [--seeds 0 1] [--json FILE]

DIR holds the files of the tasks (see the README here). Takes some minutes on one core. Stopped, the
same command goes on.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bidaf import Reader
from loop import batches_of, fractions, machine, padded, sizes, train, write
from torch import Tensor, nn

import l0gate
from l0gate import L0GateError

BATCH = 32
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Story:
    """The words of a story, a question on it, and the answer."""

    words: list[str]
    question: list[str]
    answer: str


def stories(path: Path) -> list[Story]:
    """The questions of a file, each with all sentences before it; a malformed line raises."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise L0GateError(f"`--data`: '{path}' cannot be read: {error.strerror}") from None
    found: list[Story] = []
    words: list[str] = []
    for number, line in enumerate(lines, 1):
        match = re.match(r"(\d+) (.*)", line)
        if match is None:
            raise L0GateError(
                f"`--data`: '{path}', line {number} is no numbered sentence: {line!r}"
            )
        if match.group(1) == "1":
            words = []
        text, _, rest = match.group(2).partition("\t")
        if rest:
            answer = rest.split("\t")[0].strip().lower()
            found.append(Story(list(words), _WORD.findall(text.lower()), answer))
        else:
            words += [*_WORD.findall(text.lower()), "."]
    if not found:
        raise L0GateError(f"`--data`: '{path}' holds no question")
    return found


def read(folder: Path, task: int) -> tuple[list[Story], list[Story]]:
    """Training and test questions of a task."""
    parts = []
    for part in ("train", "test"):
        paths = sorted(folder.glob(f"qa{task}_*_{part}.txt"))
        if len(paths) != 1:
            raise L0GateError(
                f"`--data` is '{folder}', where {len(paths)} files are named qa{task}_*_{part}.txt;"
                " it must be one"
            )
        parts.append(stories(paths[0]))
    return parts[0], parts[1]


class Task:
    """The questions of a task as ids."""

    def __init__(self, known: Sequence[Story], test: Sequence[Story]) -> None:
        words = dict.fromkeys(w for s in known for w in (*s.words, *s.question))
        self.words = {word: i + 2 for i, word in enumerate(words)}  # 0 pads, 1 is unknown
        self.answers = {a: i for i, a in enumerate(dict.fromkeys(s.answer for s in known))}
        self.known, self.test = known, test

    def batch(self, chosen: Sequence[Story]) -> tuple[Tensor, Tensor, Tensor]:
        """Stories, questions, answers; an answer never met is -1."""
        return (
            padded([[self.words.get(w, 1) for w in story.words] for story in chosen]),
            padded([[self.words.get(w, 1) for w in story.question] for story in chosen]),
            torch.tensor([self.answers.get(story.answer, -1) for story in chosen]),
        )

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        draw = batches_of(len(self.known), BATCH, [len(story.words) for story in self.known])
        for chosen in draw(generator):
            yield self.batch([self.known[i] for i in chosen])

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        right = 0
        for begin in range(0, len(self.test), 100):
            story, question, answer = self.batch(self.test[begin : begin + 100])
            right += int((model(story, question).argmax(1) == answer).sum())
        return right / len(self.test)


def _loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    story, question, answer = batch
    return nn.functional.cross_entropy(model(story, question), answer)


def report(number: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: trained dense, then pruned from there."""
    task = Task(*read(options.data, number))
    torch.manual_seed(seed)
    dense = Reader(len(task.words) + 2, len(task.answers), options.hidden)
    common: dict[str, Any] = {
        "batches": task.batches,
        "loss": _loss,
        "steps_per_epoch": -(-len(task.known) // BATCH),
        "epochs": options.epochs,
        "seed": seed,
    }
    name = f"babi-{number}-{seed}-{options.hidden}-{options.epochs}"
    seconds = [
        train(
            dense,
            [{"params": list(dense.parameters()), "lr": 3e-3}],
            checkpoint=options.out / f"{name}-dense.npz",
            label=f"task {number}, seed {seed}, dense",
            **common,
        )
    ]
    gated = l0gate.gate(
        copy.deepcopy(dense),
        example_inputs=task.batch(task.known[:2])[:2],
        budget=l0gate.Budget(parameters=options.part, of="recurrent"),
        seed=seed,
        warm_start=True,
    )
    seconds.append(
        train(
            gated,
            gated.param_groups(lr=3e-3),
            checkpoint=options.out / f"{name}-gated-{options.part:g}.npz",
            label=f"task {number}, seed {seed}, gated",
            penalty=gated.penalty,
            **common,
        )
    )
    small = gated.shrink().eval()
    l0gate.save(options.out / f"{name}.npz", small)
    return {
        "task": number,
        "seed": seed,
        "accuracy": [task.accuracy(dense.eval()), task.accuracy(small)],
        "sizes": [sizes(dense), sizes(small)],
        "certificate": small.certificate.max_abs_difference,
        "training_seconds": seconds,
        "command": shlex.join(["python", "examples/reading/babi.py", *sys.argv[1:]]),
        "machine": machine(),
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("L0GATE_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=None if data is None else Path(data) / "babi",
        help="folder with qa1_..._train.txt and so on; default: babi in L0GATE_DATA",
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 6, 15])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--part", type=float, default=0.25, help="of the recurrent weights")
    parser.add_argument("--epochs", type=int, default=60, help="of each of the two trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--out", type=Path, default=Path("runs/reading"), help="of the models")
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error(f"--data is {options.data}; it must be a folder")
    torch.set_num_threads(1)
    rows = []
    try:
        for number in options.tasks:
            for seed in options.seeds:
                rows.append(report(number, seed, options))
                dense, small = rows[-1]["accuracy"]
                print(
                    f"task {number}, seed {seed}: {dense:.1%} -> {small:.1%},"
                    f" {fractions(rows[-1])}, certified {rows[-1]['certificate']:.0e}",
                    flush=True,
                )
                if options.json:
                    write(options.json, rows)
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
