"""The figures of a job: scores of its nets, its budget, the gap recovered, versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import platform
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cli_runs import OPTIONS

import l0gate
from l0gate.cli._report_data import Figures, gap_recovered, versions
from l0gate.cli._text import Corpus
from l0gate.cli._training import evaluate, start


def figures_of(corpus: Corpus, **changes: Any) -> Figures:
    options = replace(OPTIONS, **changes)
    return Figures(options, corpus, options.pruner(), options.load_backend())


def test_the_figures_of_words(corpus: Corpus) -> None:
    tokens = np.arange(40, dtype=np.int32) % 29
    words = replace(corpus, unit="word", splits={**corpus.splits, "valid": tokens})
    figures = figures_of(words)
    task = OPTIONS.task(words)
    parameters = start(task).parameters
    row = figures.net(task, parameters)
    held_out = {"valid_perplexity": tokens, "perplexity": words.splits["test"]}
    for name, part in held_out.items():
        assert row[name] == math.exp(evaluate(task.net, parameters, part, 2, 6))
    assert set(row) - set(figures.sizes(parameters)) == set(held_out)
    # JSON has no infinity: what is beyond all measure has a figure that is.
    huge = {name: 1e9 * array for name, array in parameters.items()}
    assert figures.net(task, huge)["perplexity"] == math.exp(700.0)


def test_a_net_that_keeps_every_neuron_has_none_to_add(corpus: Corpus) -> None:
    figures = figures_of(corpus, budget="100%")
    figures.pruner.bind(start(figures.options.task(corpus)).parameters)
    budget = figures.budget({axis: np.arange(size) for axis, size in figures.pruner.sizes.items()})
    assert budget is not None
    assert budget["used"] == budget["limit"] == budget["dense"]
    assert budget["with_one_more_neuron"] is None


@pytest.mark.parametrize(
    ("bits", "gap"),
    [
        ((1.5, 1.75, 2.0), 0.5),
        ((1.5, 2.25, 2.0), -0.5),
        ((2.0, 1.75, 2.0), None),
        ((2.5, 1.75, 2.0), None),
        ((1.5, 1.75), None),
    ],
)
def test_the_gap_recovered(bits: tuple[float, ...], gap: float | None) -> None:
    names = ("dense", "small", "direct")
    empty: dict[str, dict[str, float]] = {name: {} for name in names}
    pairs = dict(zip(names, bits, strict=False))
    characters = {name: {"bits_per_character": value} for name, value in pairs.items()}
    words = {name: {"perplexity": 2**value} for name, value in pairs.items()}
    for rows in (characters, words):
        assert gap_recovered({**empty, **rows}) == pytest.approx(gap)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numba":
            raise importlib.metadata.PackageNotFoundError(name)
        return f"{name} 1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert versions() == {
        **{"l0gate": l0gate.__version__, "python": platform.python_version()},
        **{"numpy": "numpy 1", "torch": "torch 1"},
    }
