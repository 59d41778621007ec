"""Reads SQuAD files, splits texts into words, and computes SQuAD's official scores."""

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
    """Words, numbers and single punctuation marks, in order.

    >>> [word.text for word in words_of("It's 7,000 m.")]
    ['It', "'", 's', '7', ',', '000', 'm', '.']
    """
    return [Word(m.group(), m.start(), m.end()) for m in _WORD.finditer(text)]


@dataclass(frozen=True)
class Question:
    """A question on a passage, with the texts of its `answers`.

    `article` is the index of the article in the file; articles with the same title have the same
    index. `span` is the positions of the first and the last word of the first answer, or None if
    that contains no word.
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
    titles: dict[str | int, int] = {}
    where = "its top level"
    try:
        for i, article in enumerate(_at(content, "data", list)):
            where = f"article {i}"
            paragraphs = _at(article, "paragraphs", list)
            title = _at(article, "title", str) if article.get("title") is not None else ""
            number = titles.setdefault(title or i, i)
            for j, paragraph in enumerate(paragraphs):
                where = f"article {i}, paragraph {j}"
                found += _questions(number, paragraph)
    except L0GateError as error:
        raise L0GateError(f"`--data` '{path}' is not in SQuAD's format: {where}: {error}") from None
    if not found:
        raise L0GateError(f"`--data` '{path}' holds no question")
    return found


def _questions(article: int, paragraph: Any) -> Iterator[Question]:
    passage = _at(paragraph, "context", str)
    words = words_of(passage)
    for k, qa in enumerate(_at(paragraph, "qas", list)):
        try:
            given = _at(qa, "answers", list)
            if qa.get("is_impossible", False) or not given:
                raise L0GateError("it has no answer; in version 1.1 of the format every one has")
            spans = [_span(words, passage, answer) for answer in given]
            answers = tuple(answer["text"] for answer in given)
            text = _at(qa, "question", str)
        except L0GateError as error:
            name = repr(qa["id"]) if isinstance(qa, dict) and "id" in qa else k
            raise L0GateError(f"question {name}: {error}") from None
        yield Question(str(qa.get("id", k)), article, passage, text, answers, spans[0])


_KINDS = {str: "a text", list: "a list", int: "a whole number"}


def _at(entry: Any, key: str, kind: type) -> Any:
    """The value of a key of a JSON object; raises if it is missing or not of type `kind`."""
    if not isinstance(entry, dict):
        raise L0GateError(f"{_short(entry)} was found where an object with `{key}` must be")
    if key not in entry:
        raise L0GateError(f"`{key}` is missing; it must be {_KINDS[kind]}")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise L0GateError(f"`{key}` is {_short(value)}; it must be {_KINDS[kind]}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _span(words: Sequence[Word], passage: str, answer: Any) -> tuple[int, int] | None:
    text, start = _at(answer, "text", str), _at(answer, "answer_start", int)
    end = start + len(text)
    if passage[start:end] != text or start < 0:
        raise L0GateError(f"the answer {text!r} is not the text at `answer_start` {start}")
    inside = [i for i, word in enumerate(words) if word.end > start and word.start < end]
    return (inside[0], inside[-1]) if inside else None


def split_by_article(
    questions: Sequence[Question], held_out: int
) -> tuple[list[Question], list[Question]]:
    """Training and held-out questions: the last `held_out` articles are held out.

    Training questions on a passage that also occurs in a held-out article are left out.
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
    """Ids of words and of characters; 0 pads, 1 stands for all unknown ones."""

    words: dict[str, int]
    characters: dict[str, int]

    @classmethod
    def of(cls, texts: Iterable[str], least: int = 2, extra: Iterable[str] = ()) -> Vocabulary:
        """Lower-case words that occur at least `least` times, and `extra` words; all characters."""
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
        """The ids of the first `length` characters of a text, padded to `length`."""
        ids = [self.characters.get(c, UNKNOWN) for c in text[:length]]
        return ids + [PAD] * (length - len(ids))


# The official scores ------------------------------------------------------------------------------


def normalized(answer: str) -> str:
    """An answer as SQuAD compares them: lower case, no punctuation, no articles, single spaces.

    >>> normalized("The  Main-Building!")
    'mainbuilding'
    """
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(found: str, answers: Iterable[str]) -> float:
    """1 if the normalized answer equals one of the normalized correct answers, else 0."""
    return float(any(normalized(found) == normalized(answer) for answer in answers))


def f1(found: str, answers: Iterable[str]) -> float:
    """The largest F1 of the answer's words, over the correct answers.

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
