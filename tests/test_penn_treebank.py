"""The language-model experiment on a made-up text: it resumes exactly, and its rows are right."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "penn_treebank"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"penn_treebank_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train() -> Iterator[Any]:
    before, path, threads = set(sys.modules), list(sys.path), torch.get_num_threads()
    torch.set_num_threads(1)  # such small nets wait for each other on more
    yield load("train")
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("penn_treebank_") or name == "_measure":
            del sys.modules[name]


@pytest.fixture
def corpus(train: Any, tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(12)])
    for name, lines in (("train", 260), ("valid", 60), ("test", 60)):
        text = "\n".join(" ".join(words[rng.integers(0, 12, 9)]) for _ in range(lines))
        start = " ".join(words) + "\n" if name == "train" else ""
        (tmp_path / f"made.{name}.txt").write_text(start + text + "\n", encoding="utf-8")
    return train.Corpus.read(tmp_path)


def silent(text: str) -> None:
    pass


OPTIONS: dict[str, dict[str, Any]] = {
    "dense": {"method": "dense"},
    "cosine": {"method": "dense", "cosine": True, "epochs": 1},
    "l0": {"method": "l0", "budget": 0.5},
    "strength": {"method": "l0", "strength": 1e-3},
    "early": {"method": "l0", "budget": 0.5, "shrink_early": True},
    "settled late": {"method": "l0", "budget": 0.5, "settle": 0.9},
    "iss": {"method": "iss", "budget": 0.5},
    "iss of a strength": {"method": "iss", "budget": 0.5, "strength": 1e-4},
    "gradual": {"method": "gradual_magnitude", "budget": 0.5},
    "direct": {"method": "direct", "sizes": (4, 3, 5)},
}
RESUMED = ("dense", "cosine", "l0", "early", "gradual")


def result(run: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.path.read_text())
    return found


@pytest.mark.filterwarnings("ignore:the gates")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_row_says_what_was_trained(train: Any, corpus: Any, tmp_path: Path, name: str) -> None:
    """And, stopped before and after the cut, a run ends with the numbers of one that was not."""
    options = train.Options("tiny", **OPTIONS[name])
    run = train.Run(options, corpus, tmp_path / "whole")
    assert run.finish(silent)
    row = result(run)
    embedding, first, second = row["sizes"]
    recurrent = 4 * (first * (embedding + first) + second * (first + second))
    assert row["recurrent_weights"] == recurrent
    decoder = (second + 1) * corpus.words
    biases = 8 * (first + second)
    assert row["parameters"] == corpus.words * embedding + recurrent + biases + decoder
    if options.budget is not None:
        assert recurrent <= 0.5 * 4 * 2 * 8 * 16
        assert row["certificate"]["max_abs_difference"] < 1e-9
        settle = 0.6 if options.settle is None else options.settle
        assert row["at_cut"]["step"] == math.ceil(settle * run.total)
    if options.sizes is not None:
        assert row["sizes"] == list(options.sizes)
    if name not in RESUMED:
        return
    for steps in (3, 2, None):
        part = train.Run(options, corpus, tmp_path / "parts")
        if not part.finish(silent, stop_after=steps):
            part._save()  # what a run that is killed had written last
    again = result(part)
    for each in (row, again):
        for epoch in each.pop("history"):
            each[f"epoch {epoch['epoch']}"] = epoch["train"], epoch["valid"]
        del each["training_seconds"]
    assert again == row
    assert not list((tmp_path / "parts").glob("*checkpoint*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "huge"}, "`--model` is 'huge'; allowed: small"),
        ({"method": "direct"}, "`--sizes` and `--method direct` go together"),
        ({"sizes": (1, 1, 1)}, "`--sizes` and `--method direct` go together"),
        ({"method": "l0"}, "either `--budget` or `--strength`"),
        ({"budget": 0.5}, "no budget and no strength"),
        ({"method": "magnitude", "budget": 0.5, "strength": 0.1}, "it takes `--budget`"),
        ({"method": "iss", "strength": 0.1}, "it takes `--budget`, and `--strength`"),
        ({"method": "l0", "strength": 0.1, "settle": 0.9}, "`--settle` is 0.9; it needs"),
        ({"method": "l0", "budget": 1.5}, "`--budget` is 1.5"),
    ],
)
def test_wrong_options_are_refused(train: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        train.Options(**{"model": "tiny", **options})


def test_wrong_texts_and_checkpoints_are_refused(train: Any, corpus: Any, tmp_path: Path) -> None:
    options = train.Options("tiny")
    run = train.Run(options, corpus, tmp_path)
    run.finish(silent, stop_after=1)
    run._save()
    run.checkpoint.rename(train.Run(train.Options("tiny", seed=2), corpus, tmp_path).checkpoint)
    with pytest.raises(L0GateError, match="is the checkpoint of another run"):
        train.Run(train.Options("tiny", seed=2), corpus, tmp_path).finish(silent)
    (tmp_path / "made.valid.txt").write_text("w1 unheard\n", encoding="utf-8")
    with pytest.raises(L0GateError, match=r"words that training never saw: \['unheard'\]"):
        train.Corpus.read(tmp_path)
    (tmp_path / "made.valid.txt").unlink()
    with pytest.raises(L0GateError, match="0 files have 'valid' in their names"):
        train.Corpus.read(tmp_path)


def row(model: str, method: str, sizes: tuple[int, int, int], test: float, **more: Any) -> Any:
    embedding, first, second = sizes
    return {
        "options": {"model": model, "method": method, "seed": 1, "strength": None}
        | {"shrink_early": False},
        "command": f"python train.py {method}",
        "machine": {"processor": "made up"},
        "valid": test + 3,
        "test": test,
        "at_cut": None,
        "sizes": list(sizes),
        "parameters": 10,
        "recurrent_weights": 4 * (first * (embedding + first) + second * (first + second)),
        "multiply_adds": 5,
        "training_seconds": 600.0,
        **more,
    }


def test_the_page_says_what_the_results_say(train: Any, tmp_path: Path) -> None:
    table = load("table")
    made = [
        row("small", "dense", (200, 200, 200), 114.3),
        row("small", "l0", (129, 82, 132), 113.4, at_cut={"test": 130.0}),
        row("small", "iss", (130, 90, 130), 115.0),
        row("small", "random", (140, 95, 130), 113.0),
    ]
    for i, each in enumerate(made):
        (tmp_path / f"made{i}-seed1.json").write_text(json.dumps(each))
    faster = {"l0gate": 3.25, "torch": 2.0}
    speed = {"dense": [200] * 3, "small": [129, 82, 132], "batch 1": {"faster": faster}}
    speed["batch 1"]["us"] = {"l0gate dense": 300.0, "l0gate small": 90.0}
    (tmp_path / "speed.json").write_text(json.dumps({"rows": [speed]}))
    page = table.filled("before\n<!-- results -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    lines = [line for line in page.splitlines() if line.startswith("| 2 x 200 | l0 ")]
    assert lines == [
        "| 2 x 200 | l0 | 1 | 113.4 | 116.4 | 130.0 | 129 + 82 + 132 | 182,200 | 10 | 5 | l0gate"
        " 3.2, torch 2.0 | 10 |",
        f"| 2 x 200 | l0 |  | {table.MISSING} |  |  |  |  |  |  |  |  |",
    ]
    assert page.count(table.MISSING) == 11
    assert "better than iss, which reaches 115.0" in page
    assert "NOT better than random, which reaches 113.0" in page
    assert "python train.py random" in page
    assert table.filled(page, tmp_path) == page
    picture = tmp_path / "picture.png"
    table.plot(picture, made, [speed])
    assert picture.stat().st_size > 1000


def test_seeds_count_by_their_mean(train: Any) -> None:
    """The best of two would be no fair match for one."""
    rival, first, second = (
        row("small", method, (130, 90, 130), test)
        for method, test in (("iss", 113.0), ("l0", 112.0), ("l0", 116.0))
    )
    second["options"] = second["options"] | {"seed": 2}
    (sentence,) = load("table").compared([rival, first, second])
    assert "reach 114.0 (seeds: 112.0, 116.0) with" in sentence
    assert "NOT better than iss, which reaches 113.0 with" in sentence


def test_the_committed_page_is_up_to_date(train: Any) -> None:
    table = load("table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.filled(page, FOLDER / "results") == page


def test_speeds_are_of_the_pruned_sizes(train: Any) -> None:
    speed = load("speed")
    made = [
        row("small", "dense", (20, 20, 20), 1.0),
        row("small", "l0", (9, 8, 7), 1.0),
        row("small", "iss", (9, 8, 7), 1.0),
        row("small", "direct", (3, 3, 3), 1.0),
    ]
    assert speed.pairs(made) == [((20, 20, 20), (9, 8, 7))]
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    found = speed.measured((20, 20, 20), (9, 8, 7), seconds=0.0)
    assert set(found) == {"dense", "small", "batch 1", "batch 10", "batch 20"}
    assert set(found["batch 10"]["faster"]) == set(speed.ENGINES)
