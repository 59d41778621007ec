"""Texts as sequences of tokens: where they come from, their vocabulary, and their batches."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from l0gate._errors import L0GateError, check

SPLITS = ("train", "valid", "test")
END_OF_SENTENCE = "<eos>"
UNKNOWN = {"character": "\ufffd", "word": "<unk>"}
_HELD_OUT = 0.1


@dataclass(frozen=True)
class Corpus:
    """A text in tokens, split into "train", "test" and, where there is one, "valid".

    `unit` is "character" or "word". The vocabulary is that of the training part; what only other
    parts hold counts as the unknown token (`unseen` tells how many tokens that is).
    """

    name: str
    unit: str
    vocabulary: tuple[str, ...]
    splits: dict[str, np.ndarray]
    unseen: int

    def digest(self) -> str:
        """A short mark of the tokens and the vocabulary."""
        mark = hashlib.sha256(repr(self.vocabulary).encode())
        for split, tokens in self.splits.items():
            mark.update(f"{split}{len(tokens)}".encode() + tokens.tobytes())
        return mark.hexdigest()[:16]

    def describe(self) -> str:
        """One sentence about the text."""
        sizes = ", ".join(f"{len(tokens):,} {split}" for split, tokens in self.splits.items())
        unseen = f"; {self.unseen} held-out {self.unit}s unseen in training" if self.unseen else ""
        return (
            f"{self.name}: {sum(map(len, self.splits.values())):,} {self.unit}s ({sizes}),"
            f" {len(self.vocabulary):,} different ones{unseen}"
        )


def python_topics(words: bool = False) -> Corpus:
    """The help topics that every CPython carries, in sorted order; the last tenth is held out.

    >>> python_topics().describe()  # doctest: +ELLIPSIS
    "Python's help topics: ...
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise L0GateError(
            "this Python has no pydoc_data.topics, the default text; give a text with `--text`"
        ) from None
    text = "\n".join(topics[name] for name in sorted(topics))
    return _cut("Python's help topics", text, words)


def read_file(path: Path, words: bool = False) -> Corpus:
    """One text file; the last tenth of its tokens is held out."""
    return _cut(str(path), _read(path, "--text"), words)


def read_folder(folder: Path, words: bool = False) -> Corpus:
    """Text files whose names contain train, test and, if there is one, valid."""
    check(folder.is_dir(), f"`--data` is '{folder}'; it must be a folder of text files")
    parts = {}
    for split in SPLITS:
        found = sorted(p for p in folder.iterdir() if p.is_file() and split in p.name.lower())
        names = ", ".join(p.name for p in found) or "none"
        if split == "valid" and not found:
            continue
        check(
            len(found) == 1,
            f"`--data` is '{folder}'; it must hold exactly one file whose name contains"
            f" '{split}' (found: {names})",
        )
        parts[split] = _tokens(_read(found[0], "--data"), words)
    return _encode(str(folder), parts, words)


def streams(tokens: np.ndarray, batch: int) -> np.ndarray:
    """The tokens as `batch` parallel streams, (time, batch); fewer than `batch` are left over.

    >>> streams(np.arange(7), 2)
    array([[0, 3],
           [1, 4],
           [2, 5]])
    """
    steps = len(tokens) // batch
    return np.ascontiguousarray(tokens[: steps * batch].reshape(batch, steps).T)


def chunks(stream: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and their next tokens, `length` time steps at a time; the last may be shorter."""
    for start in range(0, len(stream) - 1, length):
        stop = min(start + length, len(stream) - 1)
        yield stream[start:stop], stream[start + 1 : stop + 1]


def steps_per_epoch(tokens: int, batch: int, length: int) -> int:
    """Whole chunks of the streams; what is left over is not trained on."""
    return (tokens // batch - 1) // length


def check_enough(corpus: Corpus, batch: int, length: int) -> None:
    """Refuse a text too short for one batch."""
    least = batch * (length + 1)
    for split, tokens in corpus.splits.items():
        needed = least if split == "train" else 2
        check(
            len(tokens) >= needed,
            f"the {split} part of {corpus.name} has {len(tokens)} {corpus.unit}s; it needs at least"
            f" {needed}"
            + (f" for one batch (`--batch` {batch}, `--length` {length})" if needed > 2 else ""),
        )


def _cut(name: str, text: str, words: bool) -> Corpus:
    tokens = _tokens(text, words)
    border = len(tokens) - int(len(tokens) * _HELD_OUT)
    return _encode(name, {"train": tokens[:border], "test": tokens[border:]}, words)


def _read(path: Path, option: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise L0GateError(f"`{option}`: '{path}' cannot be read: {error.strerror}") from None
    check(
        b"\0" not in content,
        f"`{option}`: '{path}' is a binary file (it holds NUL bytes); it must be UTF-8 text",
    )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise L0GateError(
            f"`{option}`: '{path}' is binary or not in UTF-8 (byte {error.start} is"
            f" 0x{content[error.start]:02x}); it must be UTF-8 text"
        ) from None
    check(text.strip(), f"`{option}`: '{path}' is empty; it must hold some text")
    return text.replace("\r\n", "\n")


def _tokens(text: str, words: bool) -> Sequence[str]:
    if not words:
        return text
    return [
        w for line in text.splitlines() if line.strip() for w in (*line.split(), END_OF_SENTENCE)
    ]


def _encode(name: str, parts: dict[str, Sequence[str]], words: bool) -> Corpus:
    unit = "word" if words else "character"
    unknown = UNKNOWN[unit]
    known = set(parts["train"])
    unseen = sum(token not in known for split in parts for token in parts[split])
    if unseen:
        known.add(unknown)
    vocabulary = tuple(sorted(known))
    index = {token: i for i, token in enumerate(vocabulary)}
    other = index.get(unknown, -1)
    return Corpus(
        name,
        unit,
        vocabulary,
        {
            split: np.array([index.get(token, other) for token in tokens], np.int32)
            for split, tokens in parts.items()
        },
        unseen,
    )
