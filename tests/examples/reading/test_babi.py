"""Stories, and the reader of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts import run

BABI = """1 Mary went to the garden.
2 John went to the kitchen.
3 Where is Mary? \tgarden\t1
4 Mary went to the kitchen.
5 Where is Mary? \tkitchen\t4
"""


@pytest.mark.filterwarnings("ignore:the gates")
def test_stories(
    reading: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    babi = reading["babi"]
    for part in ("train", "test"):
        (tmp_path / f"qa7_made_{part}.txt").write_text(6 * BABI, encoding="utf-8")
    known, _ = babi.read(tmp_path, 7)
    assert len(known) == 12
    assert known[1].sentences[-1] == ["mary", "went", "to", "the", "kitchen"]
    assert (known[1].question, known[1].answer) == (["where", "is", "mary"], "kitchen")
    assert known[1].facts == [2]  # of the sentences, where the file counts lines
    assert len(known[2].sentences) == 2  # a new story
    options = ("--data", tmp_path, "--tasks", 7, "--seeds", 0, "--hidden", 6, "--epochs", 3)
    options += ("--out", tmp_path, "--json", tmp_path / "rows.json", "--part", 0.5)
    assert run(babi, monkeypatch, *options) == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    dense, small = row["sizes"]
    assert small["recurrent"] <= 0.5 * dense["recurrent"]
    assert list(row["accuracy"]) == ["dense", "dense, trained on", "small"]
    assert "task 7, seed 0" in capsys.readouterr().out
    assert run(babi, monkeypatch, "--data", tmp_path, "--tasks", 8) == 2
    assert "0 files are named qa8_*_train.txt" in capsys.readouterr().err
    for content, message in (
        ("Mary went.\n", "line 1 is no sentence with number 1 or 1"),
        ("1 Mary went.\n3 Who?\tMary\t1\n", "line 2 is no sentence with number 1 or 2"),
        ("1 Mary went.\n\n2 Who?\tMary\t1\n", "line 2 is no sentence"),
        ("1 Mary went.\n2 ...\n", "line 2 holds no word"),
        ("1 Mary went.\n2 Who?\t \t1\n", "line 2 has no answer"),
        ("1 Mary went.\n", "holds no question"),
        ("1 Who went?\tMary\t1\n", "line 1: its facts are '1'; they must be numbers of sentences"),
        ("1 Mary went.\n2 Who?\tMary\n", "line 2: its facts are ''"),
        ("1 Mary went.\n2 Who?\tMary\tone\n", "line 2: its facts are 'one'"),
    ):
        (tmp_path / "qa7_made_train.txt").write_text(content, encoding="utf-8")
        assert run(babi, monkeypatch, *options) == 2
        assert message in capsys.readouterr().err


def test_facts_are_followed_one_after_the_other(reading: dict[str, Any]) -> None:
    babi = reading["babi"]
    one = babi.Story([["a"], ["b", "c"]], ["d"], "x", [1, 0])
    other = babi.Story([["a"]], ["d", "e"], "y", [0])
    task = babi.Task([one, other], [])
    story, question, answer, facts = task.batch([one, other])
    assert story.tolist() == [[[2, 0], [3, 4]], [[2, 0], [0, 0]]]
    assert question.tolist() == [[5, 0], [5, 6]]
    assert answer.tolist() == [0, 1]
    assert facts.tolist() == [[1, 0], [0, 0]]
    unknown = babi.Story([["z"]], ["z"], "z", [0])
    story, _, answer, _ = task.batch([unknown])
    assert (story.tolist(), answer.tolist()) == ([[[1]]], [-1])
