"""Training that can be stopped, and options that are refused before it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reading_cases import NET, PARAMETERS, TINY, made
from scripts import run

import l0gate
from l0gate import Budget


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
    vectors = tmp_path / "glove.txt"
    vectors.write_text("sky 1 2 3 4 5 6\nSea . 1 1 1 1 1 1\n", encoding="utf-8")
    assert run(squad, monkeypatch, *options, "--glove", vectors) == 2
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
