"""Texts as sequences of tokens: where they come from, and their vocabulary."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
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
    """A text as token indices, split into "train", "test" and, where there is one, "valid".

    `unit` is "character" or "word". The vocabulary is that of the training part. Other tokens in
    the held-out parts are replaced by the unknown token; `unseen` is how many these are.
    """

    name: str
    unit: str
    vocabulary: tuple[str, ...]
    splits: dict[str, np.ndarray]
    unseen: int

    def digest(self) -> str:
        """A short hash of the tokens and the vocabulary."""
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
    """The help topics that come with CPython, in sorted order; the last tenth is held out.

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
    return _hold_out("Python's help topics", text, words)


def read_file(path: Path, words: bool = False) -> Corpus:
    """One text file; the last tenth of its tokens is held out."""
    return _hold_out(str(path), _read(path, "--text"), words)


def read_folder(folder: Path, words: bool = False) -> Corpus:
    """The files of a folder whose names contain train, test and, if there is one, valid."""
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


def check_enough(corpus: Corpus, batch: int, length: int) -> None:
    """Raise if the training part is too short for one batch, or another part for one step."""
    least = batch * (length + 1)
    for split, tokens in corpus.splits.items():
        needed = least if split == "train" else 2
        check(
            len(tokens) >= needed,
            f"the {split} part of {corpus.name} has {len(tokens)} {corpus.unit}s; it needs at least"
            f" {needed}"
            + (f" for one batch (`--batch` {batch}, `--length` {length})" if needed > 2 else ""),
        )


def _hold_out(name: str, text: str, words: bool) -> Corpus:
    """A text whose last tenth of tokens is the test part."""
    tokens = _tokens(text, words)
    border = len(tokens) - int(len(tokens) * _HELD_OUT)
    return _encode(name, {"train": tokens[:border], "test": tokens[border:]}, words)


def _read(path: Path, option: str) -> str:
    """The text of a UTF-8 file; error messages name `option` of the command line."""
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
    """Characters, or words with an end-of-sentence token after each line that is not blank."""
    if not words:
        return text
    return [
        w for line in text.splitlines() if line.strip() for w in (*line.split(), END_OF_SENTENCE)
    ]


def _encode(name: str, parts: dict[str, Sequence[str]], words: bool) -> Corpus:
    """Tokens as indices into the sorted vocabulary of the training part."""
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
