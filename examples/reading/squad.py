"""A BiDAF reader on SQuAD's questions: trained, pruned, measured, and asked.

    python examples/reading/squad.py train --data FILE [--glove FILE] [--json FILE]
    python examples/reading/squad.py ask --model FILE
    python examples/reading/squad.py ask --model FILE --passage TEXT --question TEXT

FILE is in SQuAD's format, version 1.1. The last articles are held out. `train` trains a dense
reader, prunes a copy of it, and trains another copy for as many epochs without pruning. It compares
exact match, F1, sizes and latency of the three. If it is stopped, the same command continues from
the last checkpoint. `ask` answers questions with the small reader. Without `--passage` it asks for
passages, each ended by an empty line, and for questions on them.
"""

from __future__ import annotations

import argparse
import io
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
from l0gate.files import write_atomically
from l0gate.npz import unpack

LETTERS = 12  # the first characters of a word, which are read
LONGEST = 15  # words of an answer, at most
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Sizes:
    """The arguments of `BiDAF`, stored with the saved model."""

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
    """The arguments of `BiDAF.forward` for (passage, question) texts."""
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
    >>> first.item(), last.item(), probability.item() < 0.01  # the end is never before the start
    (1, 2, True)
    """
    start, end = start.log_softmax(1), end.log_softmax(1)
    lengths = range(min(LONGEST, start.shape[1]))  # the number of words of an answer, minus 1
    ends = [nn.functional.pad(end[:, n:], (0, n), value=-torch.inf) for n in lengths]
    best, flat = (start[:, :, None] + torch.stack(ends, dim=2)).flatten(1).max(1)
    first = flat // len(lengths)
    return first, first + flat % len(lengths), best.exp()


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
        self.known = [q for q in self.known if q.span is not None and words_of(q.question)]
        self.batch = batch
        if not self.known:
            raise L0GateError(
                "`--data`: no training question has an answer that is made of words and a passage"
                " that is not held out"
            )

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
        """Exact match and F1 on all held-out questions, in percent.

        A question without words, or on a passage without words, counts as wrong.
        """
        total = {"exact": 0.0, "f1": 0.0}
        asked = [q for q in self.test if words_of(q.question) and words_of(q.passage)]
        for begin in range(0, len(asked), self.batch):
            part = asked[begin : begin + self.batch]
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
    """Word vectors by lower-case word, from a text file with a word and `width` numbers per line.

    If a word occurs with several capitalisations, the lower-case one is used, else the first one. A
    word may contain spaces. A word followed by more than `width` numbers raises.
    """
    vectors: dict[str, list[float]] = {}
    at = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                at += 1
                parts = line.rstrip().split(" ")
                word, vector = " ".join(parts[:-width]), [float(part) for part in parts[-width:]]
                fits = all(abs(number) <= _LARGEST for number in vector)
                if not word or not fits or all(map(_is_number, parts[1:-width] or ["-"])):
                    raise ValueError
                if word.lower() not in vectors or word == word.lower():
                    vectors[word.lower()] = vector
    except (OSError, UnicodeDecodeError) as error:
        raise L0GateError(f"`--glove` '{path}' cannot be read: {error}") from None
    except ValueError:
        raise L0GateError(
            f"`--glove` '{path}', line {at} is not a word and {width} numbers (`--width`)"
        ) from None
    if not vectors:
        raise L0GateError(f"`--glove` '{path}' holds no vector")
    return vectors


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def latency(models: Sequence[nn.Module], batches: Sequence[Any]) -> list[float]:
    """Milliseconds per question of each model: the median over batches; the models take turns."""
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for batch in [batches[0], *batches]:
            for own, model in zip(times, models, strict=True):
                begin = time.perf_counter()
                model(*batch)
                if batch[0].is_cuda:
                    torch.cuda.synchronize()
                own.append(1e3 * (time.perf_counter() - begin) / len(batch[0]))
    return [statistics.median(own[1:]) for own in times]


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Train, prune and compare; the small reader is saved. Returns the row of results."""
    questions = read_squad(options.data)
    reading = Reading(questions, options.held_out, options.batch)
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
            dense.word.weight[vocabulary.words[word]] = torch.tensor(vector)
    dense.to(options.device)
    name = f"squad-{options.hidden}-{options.width}-{options.epochs}-{options.seed}"
    job = {f"--{key}": getattr(options, key) for key in ("rate", "dropout", "batch")}
    job |= {"--held-out": options.held_out, "--data": digest([repr(questions).encode()])}
    few = [(question.passage, question.question) for question in reading.known[:2]]
    models, seconds = compare(
        dense,
        reading.batches(vocabulary, options.device),
        _loss,
        batch_of(vocabulary, few, options.device),
        part=options.part,
        rate=options.rate,
        epochs=options.epochs,
        seed=options.seed,
        out=options.out,
        name=name,
        job=job,
        steps_per_epoch=-(-len(reading.known) // options.batch),
    )
    small: Any = models["small"]
    path = options.out / f"{name}-{options.part:g}.npz"
    known = {"words": list(vocabulary.words), "characters": list(vocabulary.characters)}
    l0gate.save(path, small, metadata={"reader": vars(built), **known})

    def timed(size: int) -> list[float]:
        starts = range(0, len(reading.test), size)[:50]
        parts = [reading.test[start : start + size] for start in starts]
        pairs = [[(q.passage, q.question) for q in part] for part in parts]
        batches = [batch_of(vocabulary, part, options.device) for part in pairs]
        return latency([dense, small], batches)

    return {
        "questions": [len(reading.known), len(reading.test)],
        "scores": {
            label: reading.scores(model, vocabulary, options.device)
            for label, model in models.items()
        },
        "sizes": [sizes(dense), sizes(small)],
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
    """A saved reader with its vocabulary."""
    try:
        with path.open("rb") as file:
            _, manifest = unpack(file)
    except OSError as error:
        raise L0GateError(f"`--model` '{path}' cannot be read: {error.strerror}") from None
    except L0GateError as error:
        raise L0GateError(f"`--model` '{path}' {error}") from None
    try:
        given = manifest["metadata"]
        reader = Sizes(**given["reader"])
        words, characters = (
            {name: i + 2 for i, name in enumerate(given[kind])} for kind in ("words", "characters")
        )
    except (KeyError, TypeError):
        raise L0GateError(f"`--model` '{path}' was not written by `train`") from None
    return l0gate.load(path, into=reader.build).eval(), Vocabulary(words, characters)


def ask(options: argparse.Namespace) -> None:
    """Answer the question in the options, or else questions that the user enters."""
    model, vocabulary = load(options.model)
    if options.passage is not None:
        _tell(model, vocabulary, options.passage, options.question)
        return
    print("A passage of any number of lines ends with an empty one, and so do the questions on it.")
    while passage := "\n".join(_lines("passage: ", "   ...   ")):
        for question in _lines("  question: ", "  question: "):
            try:
                _tell(model, vocabulary, passage, question)
            except L0GateError as error:
                print(f"  {error}")


def _lines(first: str, others: str) -> Iterator[str]:
    """The lines that the user enters, up to an empty line."""
    prompt = first
    while line := _line(prompt):
        yield line
        prompt = others


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except (EOFError, RuntimeError):  # RuntimeError: the program has no input
        print()
        return ""
    except UnicodeDecodeError as error:
        raise L0GateError(f"the input cannot be read: {error}") from None


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
    count, part = number(int, 1, 10_000), number(float, 0, 1)
    made.add_argument("--held-out", type=count, default=2, help="number of articles, from the end")
    made.add_argument("--glove", type=Path, help="word vectors, a text file")
    made.add_argument("--hidden", type=count, default=50)
    made.add_argument("--width", type=count, default=50, help="of word vectors")
    made.add_argument("--dropout", type=number(float, 0, 0.99), default=0.2)
    made.add_argument(
        "--part", type=part, default=0.4, help="fraction of recurrent weights to keep"
    )
    made.add_argument("--epochs", type=count, default=12, help="of each of the trainings")
    made.add_argument("--batch", type=count, default=20)
    made.add_argument("--rate", type=number(float, 1e-9, 1), default=2e-3)
    made.add_argument("--seed", type=number(int, 0, 10**9), default=0)
    made.add_argument("--threads", type=number(int, 1, 256), default=1)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--json", type=target, help="write the results to this file")
    made.add_argument(
        "--out", type=folder, default="runs/reading", help="folder of models and checkpoints"
    )
    asked = commands.add_parser("ask", help="answer questions with a small reader")
    asked.add_argument("--model", type=Path, required=True)
    asked.add_argument("--passage")
    asked.add_argument("--question")
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    say_warnings()
    if isinstance(sys.stdout, io.TextIOWrapper):  # the terminal may not be able to show all letters
        sys.stdout.reconfigure(errors="replace")
    try:
        if options.do == "ask":
            if (options.passage is None) != (options.question is None):
                parser.error("--passage and --question go together")
            ask(options)
            return 0
        if options.data is None:
            parser.error("--data is missing; it must be a file in SQuAD's format")
        if options.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device is cuda; this PyTorch finds no such device")
        torch.set_num_threads(options.threads)
        row = report(options)
        for name, scores in row["scores"].items():
            print(f"{name}: exact match {scores['exact']:.1f}, F1 {scores['f1']:.1f}")
        before, after = row["milliseconds"]
        print(
            f"{fractions(row)}; {before:.1f} -> {after:.1f} ms a question; certified"
            f" {row['certificate']:.0e}"
        )
        if options.json:
            write_atomically(options.json, (json.dumps(row, indent=2) + "\n").encode())
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:  # the reader of a pipe has stopped, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
