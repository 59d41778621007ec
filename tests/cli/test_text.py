"""Texts as tokens: where they come from, their vocabulary, and what is refused."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.cli._text import (
    Corpus,
    check_enough,
    python_topics,
    read_file,
    read_folder,
)

CORPUS = Corpus("a text", "character", ("a", "b", "c"), {"train": np.arange(3, dtype=np.int32)}, 0)


def test_a_digest_is_of_the_tokens_and_the_vocabulary() -> None:
    mark = hashlib.sha256(b"('a', 'b', 'c')train3" + CORPUS.splits["train"].tobytes())
    assert CORPUS.digest() == mark.hexdigest()[:16]


def test_a_text_in_one_sentence() -> None:
    splits = {"train": np.zeros(1200), "valid": np.zeros(30), "test": np.zeros(4)}
    corpus = Corpus("book.txt", "word", tuple(map(str, range(1001))), splits, 2)
    assert corpus.describe() == (
        "book.txt: 1,234 words (1,200 train, 30 valid, 4 test), 1,001 different ones; 2 held-out"
        " words unseen in training"
    )
    assert replace(corpus, unseen=0).describe().endswith("1,001 different ones")


def test_the_default_text(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = python_topics()
    assert corpus.name == "Python's help topics"
    assert corpus.unit == "character"
    topics = sys.modules["pydoc_data.topics"].topics  # type: ignore[attr-defined]
    text = "\n".join(topics[name] for name in sorted(topics))
    found = np.concatenate([corpus.splits["train"], corpus.splits["test"]])
    assert "".join(corpus.vocabulary[i] for i in found[:500]) == text[:500]
    assert len(corpus.splits["test"]) == len(text) // 10
    assert python_topics(words=True).unit == "word"
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(L0GateError, match=r"^this Python has no pydoc_data\.topics, the default"):
        python_topics()


def test_a_file_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbfabcabcabcabcabcabc\r\nz")
    corpus = read_file(path)
    assert corpus.name == str(path)
    assert list(corpus.splits) == ["train", "test"]
    assert len(corpus.splits["train"]) == 18
    assert corpus.vocabulary == ("a", "b", "c", "\ufffd")
    assert corpus.unseen == 2  # the newline and z
    assert corpus.splits["test"].tolist() == [3, 3]
    assert corpus.splits["train"].dtype == np.int32
    assert corpus.splits["train"].tolist() == [0, 1, 2] * 6


def test_a_file_of_words(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("a b\n\n  \nb c\n" * 3 + "a d\n")
    corpus = read_file(path, words=True)
    assert corpus.vocabulary == ("<eos>", "<unk>", "a", "b", "c")
    words = [corpus.vocabulary[i] for i in corpus.splits["train"]]
    assert words == ["a", "b", "<eos>", "b", "c", "<eos>"] * 3 + ["a"]
    assert [corpus.vocabulary[i] for i in corpus.splits["test"]] == ["<unk>", "<eos>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\0b", "is a binary file (it holds NUL bytes); it must be UTF-8 text"),
        (b"ab\xff", "is binary or not in UTF-8 (byte 2 is 0xff); it must be UTF-8 text"),
        (b" \n", "is empty; it must hold some text"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_text(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(L0GateError) as error:
        read_file(path)
    assert str(error.value) == f"`--text`: '{path}' {message}"


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for name, text in {"ptb.Train.txt": "a b a", "ptb.test.txt": "b a", "notes.md": "z"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "validation").mkdir()
    corpus = read_folder(tmp_path)
    assert (corpus.name, list(corpus.splits)) == (str(tmp_path), ["train", "test"])
    (tmp_path / "valid.txt").write_text("ba")
    corpus = read_folder(tmp_path)
    assert list(corpus.splits) == ["train", "valid", "test"]
    assert [corpus.vocabulary[i] for i in corpus.splits["valid"]] == ["b", "a"]
    assert read_folder(tmp_path, words=True).vocabulary == ("<eos>", "<unk>", "a", "b")
    (tmp_path / "valid.txt").write_bytes(b"\0")
    with pytest.raises(L0GateError, match=r"^`--data`: '.*valid\.txt' is a binary file"):
        read_folder(tmp_path)


def test_what_is_no_folder_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(L0GateError) as error:
        read_folder(path)
    assert str(error.value) == f"`--data` is '{path}'; it must be a folder of text files"
    (tmp_path / "train.txt").write_text("a")
    must = f"`--data` is '{tmp_path}'; it must hold exactly one file whose name contains"
    with pytest.raises(L0GateError) as error:
        read_folder(tmp_path)
    assert str(error.value) == f"{must} 'test' (found: none)"
    (tmp_path / "train2.txt").write_text("a")
    with pytest.raises(L0GateError) as error:
        read_folder(tmp_path)
    assert str(error.value) == f"{must} 'train' (found: train.txt, train2.txt)"


def test_a_text_must_be_long_enough() -> None:
    splits = {"train": np.zeros(8), "test": np.zeros(2)}
    corpus = Corpus("book.txt", "word", ("a",), splits, 0)
    check_enough(corpus, 2, 3)
    with pytest.raises(L0GateError) as error:
        check_enough(corpus, 3, 2)
    assert str(error.value) == (
        "the train part of book.txt has 8 words; it needs at least 9 for one batch (`--batch` 3,"
        " `--length` 2)"
    )
    with pytest.raises(L0GateError) as error:
        check_enough(replace(corpus, splits={**splits, "test": np.zeros(1)}), 2, 3)
    assert str(error.value) == "the test part of book.txt has 1 words; it needs at least 2"


def test_default_text_is_held_out_by_its_last_tenth():
    corpus = python_topics()
    train, test = corpus.splits["train"], corpus.splits["test"]
    assert len(test) == (len(train) + len(test)) // 10
    assert corpus.digest() == python_topics().digest()
    assert corpus.digest() != python_topics(words=True).digest()


def test_characters_unseen_in_training_are_unknown(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab" * 45 + "ab@!ababab")
    corpus = read_file(path)
    assert corpus.unseen == 2
    assert corpus.vocabulary == ("a", "b", "\ufffd")
    assert corpus.splits["test"].tolist() == [0, 1, 2, 2, 0, 1, 0, 1, 0, 1]
