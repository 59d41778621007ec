"""The quick example: GRU readers for three bAbI tasks, pruned to a quarter of their weights.

The files say which sentences answer a question; training uses these labels too (Kumar et al.,
arXiv 1506.07285).

    python examples/reading/babi.py --data DIR [--tasks 1 6 15] [--seeds 0 1] [--json FILE]

DIR holds the files of the tasks (see the README here). Takes some minutes on one core. If it is
stopped, the same command continues from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
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
from loop import (
    batches_of,
    compare,
    digest,
    folder,
    fractions,
    machine,
    number,
    padded,
    say_warnings,
    sizes,
    target,
)
from torch import Tensor, nn

import l0gate
from l0gate import L0GateError
from l0gate.files import write_atomically

BATCH = 32
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Story:
    """A question and the sentences before it; `facts`: the positions of those that answer it."""

    sentences: list[list[str]]
    question: list[str]
    answer: str
    facts: list[int]


def stories(path: Path) -> list[Story]:
    """The questions of a file, each with all sentences before it; a malformed line raises."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise L0GateError(f"`--data`: '{path}' cannot be read: {error}") from None
    found: list[Story] = []
    position: dict[str, int] = {}  # of a sentence in the story, by the number of its line
    sentences: list[list[str]] = []
    last = 0
    for count, line in enumerate(lines, 1):
        where = f"`--data`: '{path}', line {count}"
        match = re.match(r"(\d{1,9}) (.*)", line)
        if match is None or int(match.group(1)) not in (1, last + 1):
            raise L0GateError(f"{where} is no sentence with number 1 or {last + 1}: {line!r}")
        number, (text, *rest) = match.group(1), match.group(2).split("\t")
        last = int(number)
        if last == 1:
            position, sentences = {}, []
        words = _WORD.findall(text.lower())
        if not words:
            raise L0GateError(f"{where} holds no word: {line!r}")
        if not rest:
            position[number] = len(sentences)
            sentences.append(words)
            continue
        answer, facts = rest[0].strip().lower(), " ".join(rest[1:]).split()
        if not answer:
            raise L0GateError(f"{where} has no answer: {line!r}")
        if not facts or any(fact not in position for fact in facts):
            raise L0GateError(
                f"{where}: its facts are {' '.join(facts)!r}; they must be numbers of sentences"
                " before the question"
            )
        found.append(Story(list(sentences), words, answer, [position[fact] for fact in facts]))
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
    """The questions of a task, turned into ids of words and of answers."""

    def __init__(self, known: Sequence[Story], test: Sequence[Story]) -> None:
        rows = [row for story in known for row in (*story.sentences, story.question)]
        words = dict.fromkeys(word for row in rows for word in row)
        self.words = {word: i + 2 for i, word in enumerate(words)}  # 0 pads, 1 is unknown
        self.answers = {a: i for i, a in enumerate(dict.fromkeys(s.answer for s in known))}
        self.hops = max(len(story.facts) for story in known)
        self.known, self.test = known, test

    def batch(self, chosen: Sequence[Story]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Stories, questions, answers and facts as tensors.

        An answer that is not in the training set is -1. If a question has fewer facts than there
        are hops, its last fact is repeated.
        """
        longest = max(len(story.sentences) for story in chosen)
        sentences = [self._ids(row) for story in chosen for row in _filled(story, longest)]
        last = self.hops - 1
        return (
            padded(sentences).unflatten(0, (len(chosen), longest)),
            padded([self._ids(story.question) for story in chosen]),
            torch.tensor([self.answers.get(story.answer, -1) for story in chosen]),
            torch.tensor([[*s.facts, *[s.facts[-1]] * last][: self.hops] for s in chosen]),
        )

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        draw = batches_of(len(self.known), BATCH, [len(story.sentences) for story in self.known])
        for chosen in draw(generator):
            yield self.batch([self.known[i] for i in chosen])

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        right = 0
        for begin in range(0, len(self.test), 100):
            story, question, answer, _ = self.batch(self.test[begin : begin + 100])
            right += int((model(story, question)[0].argmax(1) == answer).sum())
        return right / len(self.test)

    def _ids(self, words: Sequence[str]) -> list[int]:
        return [self.words.get(word, 1) for word in words]


def _filled(story: Story, longest: int) -> list[list[str]]:
    empty: list[str] = []
    return [*story.sentences, *[empty] * (longest - len(story.sentences))]


def _loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    story, question, answer, facts = batch
    scores, looked = model(story, question)
    of_answer = nn.functional.cross_entropy(scores, answer)
    of_facts = nn.functional.nll_loss(looked.flatten(0, 1), facts.flatten())
    return of_answer + facts.shape[1] * of_facts


def report(number: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train the dense reader, the dense one for longer, and the pruned one; returns a row."""
    task = Task(*read(options.data, number))
    torch.manual_seed(seed)
    dense = Reader(len(task.words) + 2, len(task.answers), task.hops, options.hidden)

    name = f"babi-{number}-{seed}-{options.hidden}-{options.epochs}"
    models, seconds = compare(
        dense,
        task.batches,
        _loss,
        task.batch(task.known[:2])[:2],
        part=options.part,
        rate=3e-3,
        epochs=options.epochs,
        seed=seed,
        out=options.out,
        name=name,
        job={"--data": digest([repr((task.known, task.test)).encode()])},
        steps_per_epoch=-(-len(task.known) // BATCH),
        label=f"task {number}, seed {seed}, ",
    )
    small: Any = models["small"]
    l0gate.save(options.out / f"{name}-{options.part:g}.npz", small)
    return {
        "task": number,
        "seed": seed,
        "part": options.part,
        "accuracy": {label: task.accuracy(model) for label, model in models.items()},
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
    count, tasks = number(int, 1, 10_000), number(int, 1, 20)
    parser.add_argument("--tasks", type=tasks, nargs="+", default=[1, 6, 15])
    parser.add_argument("--hidden", type=count, default=64)
    parser.add_argument(
        "--part",
        type=number(float, 0, 1),
        default=0.25,
        help="fraction of recurrent weights to keep",
    )
    parser.add_argument("--epochs", type=count, default=20, help="of each of the trainings")
    parser.add_argument("--seeds", type=number(int, 0, 10**9), nargs="+", default=[0, 1])
    parser.add_argument("--json", type=target, help="write the results to this file")
    parser.add_argument(
        "--out", type=folder, default="runs/reading", help="folder of models and checkpoints"
    )
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing; it must be a folder")
    if not options.data.is_dir():
        parser.error(f"--data is '{options.data}'; it must be a folder")
    torch.set_num_threads(1)
    say_warnings()
    rows = []
    try:
        for task in options.tasks:
            for seed in options.seeds:
                rows.append(report(task, seed, options))
                accuracy = " -> ".join(f"{each:.1%}" for each in rows[-1]["accuracy"].values())
                print(
                    f"task {task}, seed {seed}: {accuracy}, {fractions(rows[-1])}, certified"
                    f" {rows[-1]['certificate']:.0e}",
                    flush=True,
                )
                if options.json:
                    write_atomically(options.json, (json.dumps(rows, indent=2) + "\n").encode())
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
