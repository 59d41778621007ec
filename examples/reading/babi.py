"""The quick version: three of bAbI's tasks with GRU readers, pruned to a quarter.

Training says which sentences answer a question, as the files do (Kumar et al., arXiv 1506.07285).

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
    """The sentences before a question, its words, the answer, and the sentences that give it."""

    sentences: list[list[str]]
    question: list[str]
    answer: str
    facts: list[int]


def stories(path: Path) -> list[Story]:
    """The questions of a file, each with all sentences before it; a malformed line raises."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise L0GateError(f"`--data`: '{path}' cannot be read: {error}") from None
    found: list[Story] = []
    place: dict[int, int] = {}  # from the number of a line to that of a sentence
    sentences: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        match = re.match(r"(\d+) (.*)", line)
        if match is None:
            raise L0GateError(
                f"`--data`: '{path}', line {number} is no numbered sentence: {line!r}"
            )
        if match.group(1) == "1":
            place, sentences = {}, []
        text, *rest = match.group(2).split("\t")
        words = _WORD.findall(text.lower())
        if not rest:
            place[int(match.group(1))] = len(sentences)
            sentences.append(words)
            continue
        facts = rest[1].split() if len(rest) > 1 else []
        if not facts or not all(f.isdecimal() and int(f) in place for f in facts):
            raise L0GateError(
                f"`--data`: '{path}', line {number}: its facts are {' '.join(facts)!r}; they must"
                " be numbers of sentences before the question"
            )
        answer = rest[0].strip().lower()
        found.append(Story(list(sentences), words, answer, [place[int(f)] for f in facts]))
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
        rows = [row for story in known for row in (*story.sentences, story.question)]
        words = dict.fromkeys(word for row in rows for word in row)
        self.words = {word: i + 2 for i, word in enumerate(words)}  # 0 pads, 1 is unknown
        self.answers = {a: i for i, a in enumerate(dict.fromkeys(s.answer for s in known))}
        self.hops = max(len(story.facts) for story in known)
        self.known, self.test = known, test

    def batch(self, chosen: Sequence[Story]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Stories, questions, answers, facts; an answer never met is -1.

        A question with fewer facts than others looks at its last one again.
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
    """One row: trained dense, then pruned from there."""
    task = Task(*read(options.data, number))
    torch.manual_seed(seed)
    dense = Reader(len(task.words) + 2, len(task.answers), task.hops, options.hidden)
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
    parser.add_argument("--epochs", type=int, default=20, help="of each of the two trainings")
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
