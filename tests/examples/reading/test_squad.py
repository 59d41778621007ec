"""The reader of passages is trained, pruned and asked."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reading_cases import NET, PARAMETERS, TINY, article, made
from scripts import run

import l0gate
from l0gate import L0GateError


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
