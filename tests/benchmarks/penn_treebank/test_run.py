"""A run resumes exactly, and its row says what was trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest


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
def test_a_row_says_what_was_trained(load: Any, corpus: Any, tmp_path: Path, name: str) -> None:
    """And, stopped before and after the cut, a run ends with the numbers of one that was not."""
    run_of, options = load("run").Run, load("options").Options("tiny", **OPTIONS[name])
    run = run_of(options, corpus, tmp_path / "whole")
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
        assert row["at_cut"]["step"] == math.ceil(settle * run.trainer.total)
    if options.sizes is not None:
        assert row["sizes"] == list(options.sizes)
    if name not in RESUMED:
        return
    for steps in (3, 2, None):
        part = run_of(options, corpus, tmp_path / "parts")
        if not part.finish(silent, stop_after=steps):
            part.save()  # what a run that is killed had written last
    again = result(part)
    for each in (row, again):
        for epoch in each.pop("history"):
            each[f"epoch {epoch['epoch']}"] = epoch["train"], epoch["valid"]
        del each["training_seconds"]
    assert again == row
    assert not list((tmp_path / "parts").glob("*checkpoint*"))
