"""Files of questions, and the official scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from reading_cases import article, made

from l0gate import L0GateError


def test_answers_are_words_of_the_passage(reading: dict[str, Any], tmp_path: Path) -> None:
    text = reading["text"]
    found = text.read_squad(made(tmp_path / "squad.json"))
    assert len(found) == 8
    for question in found:
        words = text.words_of(question.passage)
        first, last = question.span
        span = question.passage[words[first].start : words[last].end]
        assert span == question.answers[0]
    known, test = text.split_by_article(found, 1)
    assert {q.article for q in test} == {3}
    assert len(known) == 6
    for count in (0, 4):
        with pytest.raises(L0GateError, match=f"`--held-out` is {count}; there are 4 articles"):
            text.split_by_article(found, count)


def test_nothing_stands_on_both_sides(reading: dict[str, Any], tmp_path: Path) -> None:
    """One title is one article, and a passage of a held-out article is not trained on."""
    text = reading["text"]
    told = "Who?", "Ann"
    articles = [
        article("a", "Ann sang.", told),
        article("b", "Ann slept.", told),
        article("c", "Ann  ran. ", told),
        article("d", "Ann read.", told),
        article("b", "Ann ran.", told),
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    found = text.read_squad(path)
    known, test = text.split_by_article(found, 1)
    assert [q.passage for q in known] == ["Ann sang.", "Ann slept.", "Ann  ran. ", "Ann ran."]
    assert [q.passage for q in test] == ["Ann read."]
    known, test = text.split_by_article([*found[2:], *found[:2]], 2)
    assert [q.passage for q in known] == ["Ann read."]
    squad = reading["squad"]
    with pytest.raises(L0GateError, match=r"no training question has .* not held out"):
        squad.Reading([*found[2:3], *found[4:]], 1, 1)
    for one in articles:
        one["title"] = ""
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    assert len(text.split_by_article(text.read_squad(path), 4)[1]) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "not in SQuAD's format: its top level"),
        ('{"data": []}', "holds no question"),
        ('{"data": [{"title": "a"}]}', "article 0: `paragraphs` is missing"),
        ("[" * 100_000, "is no JSON file"),
        ('{"data": [{"paragraphs": [{"context": 5, "qas": []}]}]}', "`context` is 5; it must be"),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "q", "question": null,'
            ' "answers": [{"answer_start": 0, "text": "a"}]}]}]}]}',
            "`question` is None; it must be a text",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "q", "question": "?",'
            ' "answers": [{"answer_start": "0", "text": "a"}]}]}]}]}',
            "question 'q': `answer_start` is '0'; it must be a whole number",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "q", "question": "?",'
            ' "is_impossible": true, "answers": [{"answer_start": 0, "text": "a"}]}]}]}]}',
            "question 'q': it has no answer; in version 1.1",
        ),
        ('{"data": [{"paragraphs": [{"context": "a b"}]}]}', "article 0, paragraph 0: `qas` is"),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "q", "question": "?",'
            ' "answers": []}]}]}]}',
            "question 'q': it has no answer",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "q", "question": "?",'
            ' "answers": [{"answer_start": 1, "text": "b"}]}]}]}]}',
            "the answer 'b' is not the text at `answer_start` 1",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "?", "answers":'
            ' [{"answer_start": 0, "text": "a"}, {"answer_start": 0, "text": "b"}]}]}]}]}',
            "paragraph 0: question 0: the answer 'b' is not the text at `answer_start` 0",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "ab", "qas": [{"id": 7, "question": "?",'
            ' "answers": [{"answer_start": true, "text": "b"}]}]}]}]}',
            "question 7: `answer_start` is True; it must be a whole number",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}',
            "question 0: 1 was found where",
        ),
        ('{"data": [{"paragraphs": 5}]}', "article 0: `paragraphs` is 5; it must be a list"),
        ('{"data": [5]}', "article 0: 5 was found where an object with `paragraphs` must be"),
        ('{"data": null}', "its top level: `data` is None; it must be a list"),
        ('{"data": [{"title": [1], "paragraphs": []}]}', "`title` is [1]; it must be a text"),
    ],
)
def test_malformed_files(
    reading: dict[str, Any], tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "squad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(L0GateError, match=re.escape(message)):
        reading["text"].read_squad(path)
    with pytest.raises(L0GateError, match="cannot be read: No such file"):
        reading["text"].read_squad(tmp_path / "none.json")


def test_the_official_scores(reading: dict[str, Any]) -> None:
    text = reading["text"]
    assert text.exact("The Cat!", ["a cat", "dog"]) == 1
    assert text.exact("cats", ["cat"]) == 0
    assert text.f1("", ["cat"]) == 0
    assert text.f1("black cat", ["the cat", "a black dog sat"]) == pytest.approx(2 / 3)
