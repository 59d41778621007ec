"""What the command line is told: its options and its texts, each alone and in this process."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError, Pruner
from l0gate.cli._options import Options, parse_budget
from l0gate.cli._text import (
    Corpus,
    check_enough,
    python_topics,
    read_file,
    read_folder,
)

OPTIONS = Options("lstm", (6, 5), 4, "50%", None, "numpy", 10, 2, 3, 7, 0.01, 0.06)
CORPUS = Corpus("a text", "character", ("a", "b", "c"), {"train": np.arange(3, dtype=np.int32)}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "`--cell` is 'rnn'; allowed: lstm, gru"),
        ({"hidden": ()}, "`--hidden` is empty; give one size per layer"),
        ({"hidden": (6, 0)}, "`--hidden` is 0; it must be at least 1"),
        ({"embedding": 0}, "`--embedding` is 0; it must be at least 1"),
        ({"steps": 0}, "`--steps` is 0; it must be at least 1"),
        ({"batch": -1}, "`--batch` is -1; it must be at least 1"),
        ({"length": 0}, "`--length` is 0; it must be at least 1"),
        ({"seed": -1}, "`--seed` is -1; it must be at least 0, below 2^63"),
        ({"seed": 2**63}, f"`--seed` is {2**63}; it must be at least 0, below 2^63"),
        ({"rate": 0.0}, "`--lr` is 0.0; it must be a number above 0"),
        ({"rate": math.inf}, "`--lr` is inf; it must be a number above 0"),
        ({"gate_rate": math.nan}, "`--gate-lr` is nan; it must be a number above 0"),
        ({"strength": 0.1}, "give `--budget` or `--strength`, not both"),
        (
            {"budget": None, "strength": -1.0},
            "`--strength` is -1.0; it must be a number of at least 0",
        ),
        (
            {"budget": None, "strength": math.inf},
            "`--strength` is inf; it must be a number of at least 0",
        ),
        (
            {"budget": "much"},
            "`--budget` is 'much'; it must be a share such as 20% or 0.2 (above 0, at most 100%),"
            " or a whole number of parameters",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as error:
        replace(OPTIONS, **change)
    assert str(error.value) == message


def test_options_at_their_limits_are_taken() -> None:
    ones = {"hidden": (1,), "embedding": 1, "steps": 1, "batch": 1, "length": 1}
    replace(OPTIONS, **ones, cell="gru", seed=2**63 - 1, rate=1e-9)
    replace(OPTIONS, seed=0, budget=None, strength=0.0)
    replace(OPTIONS, budget=None, strength=1e6)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("20%", 0.2), ("100%", 1.0), ("0.5", 0.5), ("1.0", 1.0), ("1", 1), ("150000", 150000)],
)
def test_budgets(text: str, budget: float) -> None:
    found = parse_budget(text)
    assert found == budget
    assert type(found) is type(budget)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "101%", "1.5", "-1", "nan", "inf", "2 MB"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(L0GateError, match=re.escape(f"`--budget` is {text!r}; it must be a share")):
        parse_budget(text)


def test_methods_of_a_job() -> None:
    assert OPTIONS.pruner().method is None
    assert repr(replace(OPTIONS, method="iss").pruner().method).startswith("GroupLasso(")
    with pytest.raises(L0GateError, match="`--method`: `method` is 'lasso'; registered are 'l0',"):
        replace(OPTIONS, method="lasso")
    with pytest.raises(L0GateError, match="`--method` is 'random', which needs a `--budget`"):
        replace(OPTIONS, budget=None, strength=0.1, method="random")


def test_the_nets_of_a_job() -> None:
    assert tuple(OPTIONS.chain.layout.axes) == ("x", "h0", "h1")
    assert OPTIONS.job(CORPUS) == {
        **{"cell": "lstm", "hidden": [6, 5], "embedding": 4, "budget": "50%", "strength": None},
        **{"backend": "numpy", "steps": 10, "batch": 2, "length": 3, "seed": 7},
        **{"rate": 0.01, "gate_rate": 0.06, "method": "l0", "text": CORPUS.digest()},
    }
    pruner = OPTIONS.pruner()
    assert (pruner.budget.parameters, pruner.budget.of) == (0.5, "recurrent")
    assert pruner.strength is None
    pruner = replace(OPTIONS, budget=None, strength=0.25).pruner()
    assert (pruner.budget, pruner.strength) == (None, 0.25)


def test_the_task_of_a_job() -> None:
    pruner = Pruner(OPTIONS.chain.layout, strength=0.1)
    task = OPTIONS.task(CORPUS, pruner)
    assert task.sizes == {"embedding": 4, "rnn": [6, 5], "decoder": 3}
    assert (task.pruner, task.vocabulary, task.backend.name) == (pruner, 3, "numpy")
    assert task.tokens is CORPUS.splits["train"]
    assert (task.steps, task.batch, task.length, task.seed) == (10, 2, 3, 7)
    assert (task.rate, task.gate_rate) == (0.01, 0.06)
    assert [layer["type"] for layer in task.net.layers] == ["embedding", "lstm", "linear"]
    small = OPTIONS.task(CORPUS, sizes={"x": 3, "h0": 2, "h1": 1})
    assert small.sizes == {"embedding": 3, "rnn": [2, 1], "decoder": 3}
    assert small.pruner is None


def test_backends_that_cannot_do_the_job() -> None:
    with pytest.raises(L0GateError, match=r"^`--backend`: `backend` is 'nunpy'"):
        replace(OPTIONS, backend="nunpy").engine()


# Texts ----------------------------------------------------------------------------------------


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
