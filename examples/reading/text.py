"""Passages, questions and answers: SQuAD's files, words and their places, the official scores."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l0gate import L0GateError

_WORD = re.compile(r"\w+|[^\w\s]")
PAD, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Word:
    """A word and where it stands in its text: text[start:end]."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Words, numbers and single signs, in order.

    >>> [word.text for word in words_of("It's 7,000 m.")]
    ['It', "'", 's', '7', ',', '000', 'm', '.']
    """
    return [Word(m.group(), m.start(), m.end()) for m in _WORD.finditer(text)]


@dataclass(frozen=True)
class Question:
    """A question on a passage; `answers` are texts, `span` the first one's words, both included.

    `article` counts the articles of the file, those of one title as one; `span` is None where an
    answer holds no word.
    """

    id: str
    article: int
    passage: str
    question: str
    answers: tuple[str, ...]
    span: tuple[int, int] | None


def read_squad(path: Path) -> list[Question]:
    """The questions of a file in SQuAD's format (version 1.1); anything else raises."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise L0GateError(f"`--data` '{path}' cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise L0GateError(f"`--data` '{path}' is no JSON file: {error}") from None
    found: list[Question] = []
    titles: dict[str, int] = {}
    where = "its top level"
    try:
        for i, article in enumerate(content["data"]):
            where = f"article {i}"
            number = titles.setdefault(str(article.get("title") or i), i)
            for j, paragraph in enumerate(article["paragraphs"]):
                where = f"article {i}, paragraph {j}"
                found += _questions(number, paragraph)
    except (KeyError, TypeError, AttributeError) as error:
        raise L0GateError(
            f"`--data` '{path}' is not in SQuAD's format: {where}: {type(error).__name__}: {error}"
        ) from None
    except L0GateError as error:
        raise L0GateError(f"`--data` '{path}': {where}: {error}") from None
    if not found:
        raise L0GateError(f"`--data` '{path}' holds no question")
    return found


def _questions(article: int, paragraph: Any) -> Iterator[Question]:
    passage = _text(paragraph, "context")
    words = words_of(passage)
    for qa in paragraph["qas"]:
        name, answers = str(qa["id"]), tuple(_text(answer, "text") for answer in qa["answers"])
        if qa.get("is_impossible", False) or not answers:
            raise L0GateError(
                f"question {name!r} has no answer; in version 1.1 of the format every one has some"
            )
        span = _span(words, passage, name, qa["answers"][0])
        yield Question(name, article, passage, _text(qa, "question"), answers, span)


def _text(entry: Any, key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise L0GateError(f"`{key}` is {value!r}; it must be a text")
    return value


def _span(words: Sequence[Word], passage: str, name: str, answer: Any) -> tuple[int, int] | None:
    start, text = answer["answer_start"], answer["text"]
    if not isinstance(start, int):
        raise L0GateError(f"question {name!r}: `answer_start` is {start!r}; it must be an int")
    end = start + len(text)
    if passage[start:end] != text or start < 0:
        raise L0GateError(
            f"question {name!r}: the answer {text!r} is not what stands at `answer_start` {start}"
        )
    inside = [i for i, word in enumerate(words) if word.end > start and word.start < end]
    return (inside[0], inside[-1]) if inside else None


def split_by_article(
    questions: Sequence[Question], held_out: int
) -> tuple[list[Question], list[Question]]:
    """Training and held-out questions: the last `held_out` articles are held out.

    A passage that also stands in one of them is not trained on.
    """
    articles = list(dict.fromkeys(question.article for question in questions))
    if not 0 < held_out < len(articles):
        raise L0GateError(
            f"`--held-out` is {held_out}; there are {len(articles)} articles, of which at least one"
            " must stay on either side"
        )
    last = set(articles[-held_out:])
    test = [question for question in questions if question.article in last]
    tested = {" ".join(question.passage.split()) for question in test}
    rest = [question for question in questions if question.article not in last]
    return [q for q in rest if " ".join(q.passage.split()) not in tested], test


@dataclass(frozen=True)
class Vocabulary:
    """Ids of words and of characters; 0 pads, 1 is whatever training did not meet."""

    words: dict[str, int]
    characters: dict[str, int]

    @classmethod
    def of(cls, texts: Iterable[str], least: int = 2, extra: Iterable[str] = ()) -> Vocabulary:
        """Words that occur `least` times, in lower case, and `extra` ones; all characters."""
        counts: Counter[str] = Counter()
        characters: dict[str, None] = {}
        for text in texts:
            counts.update(word.text.lower() for word in words_of(text))
            characters.update(dict.fromkeys(text))
        often = dict.fromkeys([w for w, n in counts.items() if n >= least])
        known = [*often, *(word for word in dict.fromkeys(extra) if word not in often)]
        return cls(
            {word: i + 2 for i, word in enumerate(known)},
            {character: i + 2 for i, character in enumerate(characters)},
        )

    def word(self, text: str) -> int:
        return self.words.get(text.lower(), UNKNOWN)

    def spelled(self, text: str, length: int) -> list[int]:
        """The ids of the first `length` characters, padded."""
        ids = [self.characters.get(c, UNKNOWN) for c in text[:length]]
        return ids + [PAD] * (length - len(ids))


# The official scores ------------------------------------------------------------------------------


def normalized(answer: str) -> str:
    """As SQuAD's evaluation compares answers: no case, no signs, no articles, single spaces.

    >>> normalized("The  Main-Building!")
    'mainbuilding'
    """
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(found: str, answers: Iterable[str]) -> float:
    """1 if the answer is one of those given."""
    return float(any(normalized(found) == normalized(answer) for answer in answers))


def f1(found: str, answers: Iterable[str]) -> float:
    """The best overlap of words with one of the answers given.

    >>> round(f1("the golden statue", ["a golden statue of Mary"]), 3)
    0.667
    """
    return max(_f1(normalized(found).split(), normalized(answer).split()) for answer in answers)


def _f1(found: list[str], answer: list[str]) -> float:
    common = sum((Counter(found) & Counter(answer)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(answer)
    return 2 * precision * recall / (precision + recall)
