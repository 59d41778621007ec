"""The figures of a report as JSON, and what its budget counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from report_cases import PARAMETERS, expected, made, report_of

import l0gate
from l0gate import Budget


def test_json_holds_every_figure() -> None:
    found = l0gate.report(*made(Budget(bytes=0.5, of=["rnn.w", "rnn.u"])), PARAMETERS)
    content = found.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["total"]["after"]["parameters"] == found.total()[1]
    assert content["budget"]["of"] == ["rnn.w", "rnn.u"]
    assert "bytes of rnn.w, rnn.u" in str(found)


def test_json_word_by_word() -> None:
    pruner, state = made(Budget(bytes=0.5, of=["rnn.w", "rnn.u"]), freeze=["x"])
    found = l0gate.report(pruner, state, PARAMETERS)
    content = found.to_dict()
    x = {"axis": "x", "before": 4, "open": 4, "half_open": 0, "closed": 0, "after": 4}
    h = {"axis": "h", "before": 3, "open": 1, "half_open": 1, "closed": 1, "after": 1}
    size = 4 * 3 * (4 * 8 + 3 * 4)
    small = 4 * (4 * 8 + 4)
    part = {
        "part": "rnn",
        "parameters": ["rnn.w", "rnn.u"],
        "before": {"parameters": 84, "bytes": size, "multiply_adds": 84},
        "after": {"parameters": 20, "bytes": small, "multiply_adds": 20},
    }
    assert content == {
        "axes": [{**x, "frozen": "named in `freeze`"}, {**h, "frozen": None}],
        "parts": [content["parts"][0], part, *content["parts"][2:]],
        "total": {
            "before": {"parameters": 123, "bytes": 840, "multiply_adds": 90},
            "after": {"parameters": 55, "bytes": 840 - size + small - 32, "multiply_adds": 22},
        },
        "budget": {
            "measure": "bytes",
            "of": ["rnn.w", "rnn.u"],
            "before": size,
            "after": small,
            "expected": expected(pruner, state),
            "target": 1.0,
            "goal": 0.5,
            "limit": size // 2,
        },
        "progress": 0.0,
        "selected": False,
        "forced_open": 0,
        "forced_closed": 0,
    }
    assert l0gate.report(*made()).to_dict()["budget"]["of"] == "layout"


@pytest.mark.parametrize(
    ("measure", "of", "outside", "counted"),
    [
        ("multiply_adds", "recurrent", False, "recurrent multiply-adds"),
        ("parameters", "rnn.w", False, "parameters of rnn.w"),
        ("bytes", ("a", "b"), True, "bytes of a, b"),
        ("bytes", "layout", False, "bytes"),
        ("bytes", "layout", True, "bytes of the layout"),
    ],
)
def test_what_a_budget_counts(measure: str, of: Any, outside: bool, counted: str) -> None:
    report = report_of()
    if outside:
        part = replace(report.parts[0], part="not in the layout")
        report = replace(report, parts=(*report.parts, part))
    budget = replace(report.budget, measure=measure, of=of)
    report = replace(report, budget=budget)
    assert report.counted == counted
    whole = [line for line in str(report).splitlines() if line.startswith("The whole model")]
    kind, before, after = ("bytes", 2e7, 8e6) if measure == "bytes" else ("parameters", 5e6, 2e6)
    sentence = f"The whole model goes from {before:,.0f} {kind} to {after:,.0f} (40.0%)."
    assert whole == ([sentence] if outside else [])
