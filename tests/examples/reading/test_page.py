"""Examples in the docstrings run, and the page says what came out."""

from __future__ import annotations

import doctest
import json
from typing import Any

from scripts import ROOT

PAGE = ROOT / "docs" / "reading.md"


def test_documentation(reading: dict[str, Any]) -> None:
    for module in reading.values():
        assert doctest.testmod(module).failed == 0


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
