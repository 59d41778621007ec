"""The reading examples, on made-up texts of a few words."""

from __future__ import annotations

import doctest
import importlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_models import set_gates

import l0gate
from l0gate import Budget, L0GateError, Layout

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("text", "bidaf", "loop", "babi", "squad")
PAGE = ROOT / "docs" / "reading.md"


@pytest.fixture(scope="module")
def reading() -> Iterator[dict[str, Any]]:
    """The modules of the example, which find each other as they do when one is run."""
    threads, path = torch.get_num_threads(), list(sys.path)
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "examples" / "reading"))
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    yield {name: importlib.import_module(name) for name in NAMES}
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module
    sys.path[:] = path
    torch.set_num_threads(threads)


def inputs(words: int = 30) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    passage = torch.randint(2, words, (3, 9), generator=generator)
    question = torch.randint(2, words, (3, 4), generator=generator)
    passage[1, 6:], question[2, 2:] = 0, 0
    spelled = torch.randint(0, 20, (3, 9, 7), generator=generator)
    spelled_question = torch.randint(0, 20, (3, 4, 7), generator=generator)
    return passage, question, spelled, spelled_question


def renamed(layout: Layout) -> list[tuple[str, str]]:
    """The patterns with axes named by their first place, so that names do not matter."""
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return names.setdefault(match.group(), f"n{len(names)}")

    return [
        (name, re.sub(r"[a-z]\w*", number, str(pattern)))
        for name, pattern in sorted(layout.to_dict().items())
    ]


def test_documentation(reading: dict[str, Any]) -> None:
    for module in reading.values():
        assert doctest.testmod(module).failed == 0


# The layout ---------------------------------------------------------------------------------------


def test_the_layout_by_hand_is_the_one_derived(reading: dict[str, Any]) -> None:
    model = reading["bidaf"].BiDAF(30, 20, hidden=5, width=6)
    gated = l0gate.gate(model, example_inputs=inputs(), budget=Budget(parameters=0.5))
    assert gated.frozen == {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert renamed(names["layout"]) == renamed(gated.layout)
    assert str(gated.layout.to_dict()["modelling.weight_ih_l0"]).endswith(
        "<- (f0 + b0 + f0 + b0 + f0 + b0 + f0 + b0)"
    )
    (text,) = re.findall(r"```\n(Layout\(.*?\))\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert text == repr(gated.layout)


@pytest.mark.parametrize("kind", ["random", "soft", "closed", "open"])
def test_random_gates_change_nothing(reading: dict[str, Any], kind: str) -> None:
    torch.manual_seed(1)
    model = reading["bidaf"].BiDAF(30, 20, hidden=5, width=6).double()
    gated = l0gate.gate(model, example_inputs=inputs(), strength=1e-3)
    set_gates(gated, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an axis without an open gate keeps one neuron
        small = gated.shrink().eval()
    assert small.certificate.max_abs_difference <= 1e-10
    for found, expected in zip(small(*inputs()), gated.eval()(*inputs()), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_padding_changes_nothing(reading: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = reading["bidaf"].BiDAF(30, 20, hidden=5, width=6).double().eval()
    passage, question, spelled, spelled_question = inputs()
    together = model(passage, question, spelled, spelled_question)
    for i, (t, j) in enumerate(((9, 4), (6, 4), (9, 2))):
        alone = model(
            passage[i : i + 1, :t],
            question[i : i + 1, :j],
            spelled[i : i + 1, :t],
            spelled_question[i : i + 1, :j],
        )
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[i, :t])
            assert bool((other[i, t:] == -torch.inf).all())


# Files --------------------------------------------------------------------------------------------


def article(title: str, passage: str, *qas: tuple[str, str]) -> dict[str, Any]:
    questions = [
        {
            "id": f"{title}{i}",
            "question": question,
            "answers": [{"answer_start": passage.index(text), "text": text}],
        }
        for i, (question, text) in enumerate(qas)
    ]
    return {"title": title, "paragraphs": [{"context": passage, "qas": questions}]}


def made(path: Path) -> Path:
    colours = ["red", "blue", "green", "black"]
    articles = []
    for i in range(4):
        sky, sea = colours[i], colours[(i + 1) % 4]
        passage = f"In land {i} the sky is {sky}. The sea, though, is {sea}!"
        asked = ("What colour is the sky?", sky), ("What colour is the sea?", sea)
        articles.append(article(f"land{i}", passage, *asked))
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return path


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


def test_questions_without_a_word(reading: dict[str, Any], tmp_path: Path) -> None:
    """They are not trained on, and count as wrong."""
    squad, path = reading["squad"], tmp_path / "squad.json"
    asked = (" ", "red"), ("Sky?", "red")
    articles = [article(f"a{i}", f"The sky is red, {i}.", *asked) for i in (0, 1)]
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    case = squad.Reading(reading["text"].read_squad(path), 1, 3)
    assert [q.question for q in case.known] == ["Sky?"]
    vocabulary = case.vocabulary()

    def first_word_red(passage: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = torch.zeros(passage.shape)
        scores[:, 3] = 9.0
        return scores, scores

    assert case.scores(first_word_red, vocabulary, "cpu") == {"exact": 50.0, "f1": 50.0}
    path.write_text(
        json.dumps({"data": [article(f"a{i}", f"A b {i}.", (" ", "b")) for i in (0, 1)]})
    )
    with pytest.raises(L0GateError, match="no training question has an answer"):
        squad.Reading(reading["text"].read_squad(path), 1, 3)


def test_the_likeliest_span_is_found(reading: dict[str, Any]) -> None:
    squad = reading["squad"]
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 14, 15, 16, 40):
        start, end = torch.randn(2, 3, length, generator=generator)
        first, last, probability = squad.spans(start, end)
        sums = (start.softmax(1)[:, :, None] * end.softmax(1)[:, None]).tolist()
        for row, i, j, p in zip(sums, first, last, probability, strict=True):
            allowed = [
                (row[a][b], a, b) for a in range(length) for b in range(a, min(length, a + 15))
            ]
            best = max(allowed)
            assert (best[1], best[2]) == (int(i), int(j))
            assert float(p) == pytest.approx(best[0])


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
            "the answer 'b' is not what stands at `answer_start` 1",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "?", "answers":'
            ' [{"answer_start": 0, "text": "a"}, {"answer_start": 0, "text": "b"}]}]}]}]}',
            "paragraph 0: question 0: the answer 'b' is not what stands at `answer_start` 0",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "ab", "qas": [{"id": 7, "question": "?",'
            ' "answers": [{"answer_start": true, "text": "b"}]}]}]}]}',
            "question 7: `answer_start` is True; it must be a whole number",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}',
            "question 0: 1 stands where",
        ),
        ('{"data": [{"paragraphs": 5}]}', "article 0: `paragraphs` is 5; it must be a list"),
        ('{"data": [5]}', "article 0: 5 stands where an object with `paragraphs` must"),
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


NET = l0gate.get_backend("numpy").net([{"type": "linear", "name": "out"}])
PARAMETERS = {"out.weight": np.ones((2, 3)), "out.bias": np.ones(2)}


# Training and asking ------------------------------------------------------------------------------


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    code: int = module.main()
    return code


TINY = ("--held-out", 1, "--hidden", 6, "--width", 6, "--epochs", 4, "--batch", 3, "--part", 0.5)


@pytest.mark.filterwarnings("ignore:the gates")
def test_a_reader_is_trained_pruned_and_asked(
    reading: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    squad = reading["squad"]
    data = made(tmp_path / "squad.json")
    options = ("--data", data, "--out", tmp_path, "--json", tmp_path / "row.json", *TINY)
    assert run(squad, monkeypatch, "train", *options) == 0
    row = json.loads((tmp_path / "row.json").read_text())
    dense, small = row["sizes"]
    assert small["recurrent"] <= 0.5 * dense["recurrent"]
    assert row["certificate"] <= 1e-10
    assert row["questions"] == [6, 2]
    assert "exact match" in capsys.readouterr().out
    # Once more from the last checkpoints: nothing is trained, and the numbers are the same.
    (tmp_path / "row.json").unlink()
    assert run(squad, monkeypatch, "train", *options) == 0
    again = json.loads((tmp_path / "row.json").read_text())
    assert {k: again[k] for k in ("scores", "sizes", "kept")} == {
        k: row[k] for k in ("scores", "sizes", "kept")
    }
    capsys.readouterr()
    model = ("--model", tmp_path / row["model"])
    passage, question = (
        "In land 9 the sky is violet.",
        "What colour, I ask, is the sky there, then?",
    )
    assert run(squad, monkeypatch, "ask", *model, "--passage", passage, "--question", question) == 0
    told = capsys.readouterr().out
    text, probability = re.fullmatch(r"(.*)  \((\d+)%\)\n", told).groups()  # type: ignore[union-attr]
    assert text in passage
    assert 0 <= int(probability) <= 100
    for what, given in (("passage", ("--passage", " ", "--question", "Who?")),):
        assert run(squad, monkeypatch, "ask", *model, *given) == 2
        assert f"`--{what}` is ' '; it must hold" in capsys.readouterr().err
    assert run(squad, monkeypatch, "ask", *model, "--passage", "One word.", "--question", "?") == 0
    capsys.readouterr()
    passage = "The sea is red.", "The sky is blue."
    lines = iter([*passage, "", "What is red?", "?", "", "One.", "", "", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert run(squad, monkeypatch, "ask", *model) == 0
    assert list(lines) == []
    _, *told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert all(line.rpartition("  (")[0] in "\n".join(passage) for line in told)
    for stop, code in ((EOFError, 0), (RuntimeError, 0), (KeyboardInterrupt, 130)):
        monkeypatch.setattr("builtins.input", lambda prompt, e=stop: (_ for _ in ()).throw(e))
        assert run(squad, monkeypatch, "ask", *model) == code
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")  # has not all letters
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", screen)
        given = "--passage", "Beyoncé", "--question", "Who?"
        assert run(squad, monkeypatch, "ask", *model, *given) == 0
    screen.seek(0)
    assert screen.read().startswith("Beyonc?")
    command = [sys.executable, squad.__file__, "ask", *model]
    asked = "The sky is blue.\n\n" + "What is blue?\n" * 3000
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.close()  # nobody reads on
        _, told = process.communicate(asked.encode())
    assert (process.returncode, told) == (0, b"")
    assert run(squad, monkeypatch, "ask", "--model", tmp_path / "none.npz") == 2
    assert "none.npz' cannot be read" in capsys.readouterr().err
    l0gate.save(tmp_path / "other.npz", NET.bind(PARAMETERS))
    assert run(squad, monkeypatch, "ask", "--model", tmp_path / "other.npz") == 2
    assert "other.npz' was not written by `train`" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:the gates")
def test_a_checkpoint_of_another_run_is_refused(
    reading: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    squad, data, out = reading["squad"], made(tmp_path / "squad.json"), tmp_path / "out"
    options = ("train", "--data", data, "--out", out, *TINY)
    assert run(squad, monkeypatch, *options) == 0
    for changed, name in (
        (("--rate", 0.1), "--rate"),
        (("--dropout", 0.5), "--dropout"),
        (("--batch", 2), "--batch"),
        (("--part", "0.5000001"), "--part"),  # the same in the file's name
        (("--held-out", 2), "--held-out"),
    ):
        capsys.readouterr()
        assert run(squad, monkeypatch, *options, *changed) == 2
        assert re.search(f"another run: its {name}.* differ", capsys.readouterr().err)
    content = json.loads(data.read_text())
    data.write_text(json.dumps({"data": content["data"][::-1]}), encoding="utf-8")
    assert run(squad, monkeypatch, *options) == 2
    assert "its --data" in capsys.readouterr().err
    data.write_text(json.dumps(content), encoding="utf-8")
    # Dense weights from elsewhere: the pruned ones do not belong to them.
    (path,) = out.glob("*-dense.npz")
    path.unlink()
    assert run(squad, monkeypatch, *options[: -len(TINY)], *TINY, "--glove", glove(tmp_path)) == 2
    assert "its first weights differ" in capsys.readouterr().err
    l0gate.save(path, NET.bind(PARAMETERS))
    assert run(squad, monkeypatch, *options) == 2
    assert "is no checkpoint of a training" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:1000])
    assert run(squad, monkeypatch, *options) == 2
    assert "is truncated" in capsys.readouterr().err
    path.write_bytes(b"")
    assert run(squad, monkeypatch, *options) == 2
    assert "remove it to begin anew" in capsys.readouterr().err


def glove(folder: Path) -> Path:
    path = folder / "glove.txt"
    path.write_text("sky 1 2 3 4 5 6\nSea . 1 1 1 1 1 1\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--hidden", 0), "argument --hidden: it is '0'; it must be a whole number from 1"),
        (("--epochs", "two"), "argument --epochs: it is 'two'"),
        (("--dropout", "nan"), "argument --dropout: it is 'nan'; it must be a number from 0"),
        (("--rate", 0), "argument --rate: it is '0'"),
        (("--threads", 100_000), "argument --threads"),
        (("--device", "meta"), "argument --device"),
        (("--part", 0), "`--part` is 0.0: `parameters` is 0.0"),
        (("--part", 1e-9), "`--part` is 1e-09: `parameters` is 1e-09, which allows"),
        (("--held-out", 9), "`--held-out` is 9; there are 4 articles"),
        (("--json", ""), "argument --json"),
        (("--json", os.devnull), "argument --json: .* must be a file to write"),
        (("--out", ""), "argument --out: it is ''; it must be a folder"),
        (("--out", "/proc"), "argument --out: '/proc' cannot be (written to|made)"),
        (("--out", "FILE"), "argument --out: '.*squad.json' cannot be made"),
        (("--glove", "none.txt"), "`--glove` 'none.txt' cannot be read"),
    ],
)
def test_wrong_options_are_refused_before_training(
    reading: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, Any],
    message: str,
) -> None:
    squad, data = reading["squad"], made(tmp_path / "squad.json")
    monkeypatch.setattr(reading["loop"], "train", lambda *_, **__: pytest.fail("it trains"))
    option, value = given
    options = ("--data", data, "--out", tmp_path, *TINY, option, data if value == "FILE" else value)
    try:
        code = run(squad, monkeypatch, "train", *options)
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore:the gates")
def test_stopping_changes_no_number(reading: dict[str, Any], tmp_path: Path) -> None:
    loop, squad = reading["loop"], reading["squad"]
    questions = reading["text"].read_squad(made(tmp_path / "squad.json"))
    case = squad.Reading(questions, 1, 3)
    vocabulary = case.vocabulary()

    def train(folder: str, stop: int | None) -> tuple[Any, float]:
        torch.manual_seed(3)
        model = squad.Sizes(
            len(vocabulary.words) + 2, len(vocabulary.characters) + 2, 4, 5, 0.3
        ).build()
        pairs = [(q.passage, q.question) for q in case.known[:2]]
        gated = l0gate.gate(
            model,
            example_inputs=squad.batch_of(vocabulary, pairs),
            budget=Budget(parameters=0.5, of="recurrent"),
        )
        count = [0]

        def penalty(progress: float) -> torch.Tensor:
            count[0] += 1
            if count[0] == stop:
                raise KeyboardInterrupt
            return gated.penalty(progress)  # type: ignore[no-any-return]

        seconds = loop.train(
            gated,
            gated.param_groups(lr=1e-2),
            case.batches(vocabulary, "cpu"),
            squad._loss,
            steps_per_epoch=2,
            epochs=5,
            seed=1,
            checkpoint=tmp_path / folder / "c.npz",
            label="test",
            job={},
            penalty=penalty,
        )
        return gated, seconds

    whole, _ = train("whole", None)
    for stop in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            train("parts", stop)
    parts, _ = train("parts", None)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_glove_vectors(
    reading: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("sky 1 2 3\nrare 4 5 6\n", encoding="utf-8")
    read = reading["squad"].read_glove
    assert read(path, 3) == {"sky": [1, 2, 3], "rare": [4, 5, 6]}
    path.write_text("Sky 9 9\nsky 1 2\nSKY 8 8\n. . 3 4\n", encoding="utf-8")
    assert read(path, 2) == {"sky": [1, 2], ". .": [3, 4]}
    path.write_text("\ufeffsky 1 2\n", encoding="utf-8")
    assert read(path, 2) == {"sky": [1, 2]}
    for content in (
        *("sky 1 2 3\n", "sky one 2 3 4\n", "1 2 3 4\n", "sky 1 2 nan 4\n", "sky 1e39 2 3 4\n"),
        *("400000 100\nsky 1 2 3 4\n", "sky 1 2 3 4 5\n"),  # a header, and longer vectors
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(L0GateError, match=r"line 1 is not a word and 4 numbers \(`--width`\)"):
            read(path, 4)
    path.write_text("", encoding="utf-8")
    with pytest.raises(L0GateError, match="holds no vector"):
        read(path, 4)
    path.write_bytes(b"\xff\xfe")
    for missing in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(L0GateError, match="cannot be read"):
            read(missing, 4)


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


@pytest.mark.parametrize("kind", ["random", "soft", "closed", "open"])
def test_random_gates_change_nothing_of_the_smaller_reader(
    reading: dict[str, Any], kind: str
) -> None:
    torch.manual_seed(1)
    model = reading["bidaf"].Reader(30, 5, hops=3, hidden=5, width=6).double()
    story, question, *_ = inputs()
    given = (story.unflatten(1, (3, 3)), question)
    gated = l0gate.gate(model, example_inputs=given, strength=1e-3)
    assert gated.frozen == {}
    set_gates(gated, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = gated.shrink().eval()
    assert small.certificate.max_abs_difference <= 1e-10
    for found, expected in zip(small(*given), gated.eval()(*given), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_page_says_what_came_out() -> None:
    page, results = PAGE.read_text(encoding="utf-8"), ROOT / "examples" / "reading" / "results"

    def change(values: Any, form: str = ",") -> str:
        return " -> ".join(format(value, form) for value in values)

    def left(row: dict[str, Any]) -> str:
        pair = [part["recurrent"] for part in row["sizes"]]
        return f"{change(pair)} ({pair[1] / pair[0]:.1%})"

    for name in ("babi", "babi-twentieth"):
        for row in json.loads((results / f"{name}.json").read_text()):
            accuracy = " | ".join(f"{part:.1%}" for part in row["accuracy"].values())
            line = f"| {row['task']} | {row['seed']} | {accuracy} | {left(row)} |"
            assert f"{line} {row['certificate']:.0e} |" in page
    for run, name in enumerate(("squad", "squad-avx2"), start=1):
        row = json.loads((results / f"{name}.json").read_text())
        for reader, scores in row["scores"].items():
            assert f"| {run} | {reader} | {scores['exact']:.1f} | {scores['f1']:.1f} |" in page
        cells = [left(row), change([each["parameters"] for each in row["sizes"]])]
        cells += [change(row[name], ".1f") for name in ("milliseconds", "milliseconds_in_batches")]
        assert f"| {run} | {' | '.join(cells)} | {row['certificate']:.0e} |" in page
