"""A BiDAF reader on SQuAD's questions: trained, pruned, measured, and asked.

    python examples/reading/squad.py train --data FILE [--glove FILE] [--json FILE]
    python examples/reading/squad.py ask --model FILE
    python examples/reading/squad.py ask --model FILE --passage TEXT --question TEXT

FILE is in SQuAD's format, version 1.1. The last articles are held out. `train` trains the dense
reader, prunes its LSTMs from there, shrinks it with the certificate, and compares exact match, F1,
sizes and latency. Stopped, the same command goes on. `ask` answers from the small reader: without
`--passage` it asks for passages and questions until an empty line.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bidaf import BiDAF
from loop import batches_of, fractions, machine, padded, sizes, train, write
from text import (
    Question,
    Vocabulary,
    exact,
    f1,
    read_squad,
    split_by_article,
    words_of,
)
from torch import Tensor, nn

import l0gate
from l0gate import L0GateError

LETTERS = 12  # characters of a word that are read
LONGEST = 15  # words of an answer, at most


@dataclass(frozen=True)
class Sizes:
    """What a reader is built from, kept with the saved model."""

    words: int
    characters: int
    hidden: int
    width: int
    dropout: float

    def build(self) -> BiDAF:
        return BiDAF(self.words, self.characters, self.hidden, self.width, self.dropout)


def batch_of(
    vocabulary: Vocabulary, pairs: Sequence[tuple[str, str]], device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(passage, question) texts as what the reader is called with."""
    found: list[Tensor] = []
    for texts in zip(*pairs, strict=True):
        words = [[word.text for word in words_of(text)] for text in texts]
        ids = padded([[vocabulary.word(word) for word in row] for row in words])
        blank = [0] * LETTERS
        spelled = [[vocabulary.spelled(word, LETTERS) for word in row] for row in words]
        filled = [[*row, *[blank] * (ids.shape[1] - len(row))] for row in spelled]
        found += [ids.to(device), torch.tensor(filled).to(device)]
    passage, spelled_passage, question, spelled_question = found
    return passage, question, spelled_passage, spelled_question


def spans(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest span of at most `LONGEST` words: first word, last word, probability, each (B,).

    >>> start, end = torch.tensor([[0.0, 8.0, 0.0]]), torch.tensor([[9.0, 0.0, 3.0]])
    >>> first, last, probability = spans(start, end)
    >>> first.item(), last.item(), probability.item() < 0.01  # the end may not come first
    (1, 2, True)
    """
    scores = start.log_softmax(1)[:, :, None] + end.log_softmax(1)[:, None]
    allowed = torch.ones_like(scores[0], dtype=torch.bool).triu().tril(LONGEST - 1)
    best, place = scores.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
    width = start.shape[1]
    return place // width, place % width, best.exp()


@torch.no_grad()
def answer(
    model: nn.Module, vocabulary: Vocabulary, pairs: Sequence[tuple[str, str]], device: str = "cpu"
) -> list[tuple[str, float]]:
    """The answer to every (passage, question) with its probability; texts without a word raise."""
    for what, texts in zip(("passage", "question"), zip(*pairs, strict=True), strict=True):
        for text in texts:
            if not words_of(text):
                raise L0GateError(f"`--{what}` is {text!r}; it must hold at least one word")
    first, last, probability = spans(*model(*batch_of(vocabulary, pairs, device)))
    found = []
    rows = zip(pairs, first.tolist(), last.tolist(), probability.tolist(), strict=True)
    for (passage, _), a, b, p in rows:
        words = words_of(passage)
        found.append((passage[words[a].start : words[b].end], p))
    return found


class Reading:
    """Training and held-out questions of a file."""

    def __init__(self, questions: Sequence[Question], held_out: int, batch: int) -> None:
        self.known, self.test = split_by_article(questions, held_out)
        self.known = [question for question in self.known if question.span is not None]
        self.batch = batch

    def vocabulary(self, extra: Sequence[str] = ()) -> Vocabulary:
        texts = dict.fromkeys(q.passage for q in self.known)
        return Vocabulary.of([*texts, *(q.question for q in self.known)], extra=extra)

    def batches(self, vocabulary: Vocabulary, device: str) -> Callable[..., Iterator[Any]]:
        lengths = [len(words_of(question.passage)) for question in self.known]

        def drawn(generator: torch.Generator) -> Iterator[Any]:
            for chosen in batches_of(len(self.known), self.batch, lengths)(generator):
                questions = [self.known[i] for i in chosen]
                pairs = [(question.passage, question.question) for question in questions]
                ends = torch.tensor([question.span for question in questions]).to(device)
                yield (*batch_of(vocabulary, pairs, device), ends[:, 0], ends[:, 1])

        return drawn

    def scores(self, model: nn.Module, vocabulary: Vocabulary, device: str) -> dict[str, float]:
        """Exact match and F1 on the held-out questions, in percent."""
        total = {"exact": 0.0, "f1": 0.0}
        for begin in range(0, len(self.test), self.batch):
            part = self.test[begin : begin + self.batch]
            found = answer(model, vocabulary, [(q.passage, q.question) for q in part], device)
            for question, (text, _) in zip(part, found, strict=True):
                total["exact"] += exact(text, question.answers)
                total["f1"] += f1(text, question.answers)
        return {name: 100 * value / len(self.test) for name, value in total.items()}


def _loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    *inputs, first, last = batch
    start, end = model(*inputs)
    return nn.functional.cross_entropy(start, first) + nn.functional.cross_entropy(end, last)


def read_glove(path: Path, width: int) -> dict[str, list[float]]:
    """Word vectors from a text file: a word and `width` numbers a line."""
    vectors = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            word, *values = line.rstrip().split(" ")
            try:
                vectors[word] = [float(value) for value in values]
            except ValueError:
                raise L0GateError(f"`--glove` '{path}', line {number} is no vector") from None
            if len(values) != width:
                raise L0GateError(
                    f"`--glove` '{path}', line {number} has {len(values)} numbers; `--width` is"
                    f" {width}"
                )
    return vectors


def latency(models: Sequence[nn.Module], batches: Sequence[Any]) -> list[float]:
    """Milliseconds a question; the models take turns, medians over batches."""
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for batch in [batches[0], *batches]:
            for own, model in zip(times, models, strict=True):
                begin = time.perf_counter()
                model(*batch)
                own.append(1e3 * (time.perf_counter() - begin) / len(batch[0]))
    return [statistics.median(own[1:]) for own in times]


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Trained dense, pruned from there, shrunk, compared; the small reader is saved."""
    reading = Reading(read_squad(options.data), options.held_out, options.batch)
    vectors = read_glove(options.glove, options.width) if options.glove else {}
    vocabulary = reading.vocabulary(sorted(vectors))
    built = Sizes(
        len(vocabulary.words) + 2,
        len(vocabulary.characters) + 2,
        options.hidden,
        options.width,
        options.dropout,
    )
    torch.manual_seed(options.seed)
    dense = built.build()
    with torch.no_grad():
        for word, vector in vectors.items():
            dense.word.weight[vocabulary.word(word)] = torch.tensor(vector)
    dense.to(options.device)
    common: dict[str, Any] = {
        "batches": reading.batches(vocabulary, options.device),
        "loss": _loss,
        "steps_per_epoch": -(-len(reading.known) // options.batch),
        "epochs": options.epochs,
        "seed": options.seed,
    }
    name = f"squad-{options.hidden}-{options.width}-{options.epochs}-{options.seed}"
    seconds = [
        train(
            dense,
            [{"params": list(dense.parameters()), "lr": options.rate}],
            checkpoint=options.out / f"{name}-dense.npz",
            label="dense",
            **common,
        )
    ]
    few = [(question.passage, question.question) for question in reading.known[:2]]
    gated = l0gate.gate(
        copy.deepcopy(dense),
        example_inputs=batch_of(vocabulary, few, options.device),
        budget=l0gate.Budget(parameters=options.part, of="recurrent"),
        seed=options.seed,
        warm_start=True,
    )
    seconds.append(
        train(
            gated,
            gated.param_groups(lr=options.rate),
            checkpoint=options.out / f"{name}-gated-{options.part:g}.npz",
            label="gated",
            penalty=gated.penalty,
            **common,
        )
    )
    small = gated.shrink().eval()
    models = (dense.eval(), small)
    path = options.out / f"{name}-{options.part:g}.npz"
    l0gate.save(path, small)
    known = {"words": list(vocabulary.words), "characters": list(vocabulary.characters)}
    write(path.with_suffix(".json"), {"reader": vars(built), **known})

    def timed(size: int) -> list[float]:
        starts = range(0, len(reading.test), size)[:50]
        parts = [reading.test[start : start + size] for start in starts]
        pairs = [[(q.passage, q.question) for q in part] for part in parts]
        return latency(models, [batch_of(vocabulary, part, options.device) for part in pairs])

    return {
        "questions": [len(reading.known), len(reading.test)],
        "scores": [reading.scores(model, vocabulary, options.device) for model in models],
        "sizes": [sizes(model) for model in models],
        "kept": {axis: len(index) for axis, index in small.certificate.kept.items()},
        "certificate": small.certificate.max_abs_difference,
        "milliseconds": timed(1),
        "milliseconds_in_batches": timed(options.batch),
        "training_seconds": seconds,
        "model": path.name,
        "seed": options.seed,
        "command": shlex.join(["python", "examples/reading/squad.py", *sys.argv[1:]]),
        "machine": machine() | {"device": options.device},
    }


def load(path: Path) -> tuple[nn.Module, Vocabulary]:
    """A saved reader, and the vocabulary from the file beside it."""
    beside = path.with_suffix(".json")
    try:
        given = json.loads(beside.read_text(encoding="utf-8"))
        reader = Sizes(**given["reader"])
        words, characters = (
            {name: i + 2 for i, name in enumerate(given[kind])} for kind in ("words", "characters")
        )
    except OSError as error:
        raise L0GateError(f"`--model`: '{beside}' cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise L0GateError(f"`--model`: '{beside}' describes no reader: {error}") from None
    return l0gate.load(path, into=reader.build).eval(), Vocabulary(words, characters)


def ask(options: argparse.Namespace) -> None:
    """One answer, or one after the other."""
    model, vocabulary = load(options.model)
    if options.passage is not None:
        _tell(model, vocabulary, options.passage, options.question or "")
        return
    while passage := input("passage (empty ends): ").strip():
        while question := input("  question (empty: another passage): ").strip():
            try:
                _tell(model, vocabulary, passage, question)
            except L0GateError as error:
                print(f"  {error}")


def _tell(model: nn.Module, vocabulary: Vocabulary, passage: str, question: str) -> None:
    ((text, probability),) = answer(model, vocabulary, [(passage, question)])
    print(f"{text}  ({probability:.0%})")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="do", required=True)
    made = commands.add_parser("train", help="train, prune and compare")
    data = os.environ.get("L0GATE_DATA")
    made.add_argument(
        "--data",
        type=Path,
        default=Path(data) / "squad" / "train-v1.1.first12articles.json" if data else None,
        help="a file in SQuAD's format",
    )
    made.add_argument("--held-out", type=int, default=2, help="articles, the last ones")
    made.add_argument("--glove", type=Path, help="word vectors, a text file")
    made.add_argument("--hidden", type=int, default=50)
    made.add_argument("--width", type=int, default=50, help="of word vectors")
    made.add_argument("--dropout", type=float, default=0.2)
    made.add_argument("--part", type=float, default=0.4, help="of the recurrent weights")
    made.add_argument("--epochs", type=int, default=12, help="of each of the two trainings")
    made.add_argument("--batch", type=int, default=20)
    made.add_argument("--rate", type=float, default=2e-3)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--json", type=Path, help="write the result here")
    made.add_argument("--out", type=Path, default=Path("runs/reading"), help="of the models")
    asked = commands.add_parser("ask", help="answers from a small reader")
    asked.add_argument("--model", type=Path, required=True)
    asked.add_argument("--passage")
    asked.add_argument("--question")
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    try:
        if options.do == "ask":
            ask(options)
            return 0
        if options.data is None:
            parser.error("--data is missing; it must be a file in SQuAD's format")
        torch.set_num_threads(options.threads)
        row = report(options)
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (EOFError, KeyboardInterrupt):
        print()
        return 130
    if options.json:
        write(options.json, row)
    for name, scores in zip(("dense", "small"), row["scores"], strict=True):
        print(f"{name}: exact match {scores['exact']:.1f}, F1 {scores['f1']:.1f}")
    dense, small = row["milliseconds"]
    print(
        f"{fractions(row)}; {dense:.1f} -> {small:.1f} ms a question; certified"
        f" {row['certificate']:.0e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
