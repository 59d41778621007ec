"""The text of a report, word by word."""

from __future__ import annotations

import re
from dataclasses import replace

from report_cases import PARAMETERS, expected, made, report_of

import l0gate
from l0gate import Budget


def test_the_text_of_a_report() -> None:
    pruner, state = made(Budget(parameters=0.7), freeze=["x"])
    pruner.bind(PARAMETERS)
    assert str(l0gate.report(pruner, state, PARAMETERS)).splitlines() == [
        "axis  before  open  half-open  closed  after",
        "x          4     4          0       0      4  frozen: named in `freeze`",
        "h          3     1          1       1      2",
        "",
        "part               parameters  multiply-adds       bytes  left",
        "embedding                  28              0         224  100%",
        "rnn                  84 -> 48       84 -> 48  528 -> 320   57%",
        "decoder                6 -> 4         6 -> 4    48 -> 32   67%",
        "not in the layout           5              -          40  100%",
        "total               123 -> 85       90 -> 52  840 -> 616   69%",
        "",
        "Budget: 82 of 118 parameters of the layout; the small model has 80 (67.8%).",
        "The whole model goes from 123 parameters to 85 (69.1%).",
        f"Expected size {expected(pruner, state):.1%} at progress 0%, where the target is 100.0%.",
        "Some neurons are undecided: `after` is what shrinking would keep now.",
    ]


def test_the_text_of_a_large_report() -> None:
    h = report_of().axes[0]
    frozen = [replace(h, axis=axis, frozen=reason) for axis, reason in (("x", "a"), ("y", "bc"))]
    assert str(report_of(axes=(h, *frozen))).splitlines() == [
        "axis  before    open  half-open  closed   after",
        "h     12,345  10,000          0   2,345  10,000",
        "x     12,345  10,000          0   2,345  10,000  frozen: a",
        "y     12,345  10,000          0   2,345  10,000  frozen: bc",
        "",
        "part               parameters           multiply-adds                    bytes  left",
        "rnn    2,500,000 -> 1,000,000  2,500,000 -> 1,000,000  10,000,000 -> 4,000,000   40%",
        "empty                       0                       0                        0  100%",
        "total  2,500,000 -> 1,000,000  2,500,000 -> 1,000,000  10,000,000 -> 4,000,000   40%",
        "",
        "Of 2,500,000 multiply-adds of a, b the small model has 1,000,000 (40.0%).",
        "Expected size 40.0% at progress 100%.",
        "Every neuron is decided: against their gates, 1 were opened and 23 closed.",
    ]


def test_what_the_budget_counts_and_the_whole_model_are_told_apart() -> None:
    pruner, state = made(Budget(parameters=0.6))
    text = str(l0gate.report(pruner, state, PARAMETERS))
    assert "Budget: 70 of 118 parameters of the layout; the small model has 65 (55.1%)." in text
    assert "The whole model goes from 123 parameters to 70 (56.9%)." in text
    pruner, state = made(Budget(bytes=0.6))
    text = str(l0gate.report(pruner, state, PARAMETERS))
    assert "bytes of the layout" in text
    assert re.search(r"The whole model goes from \d+ bytes to \d+", text)
    del (known := dict(PARAMETERS))["scale"]
    text = str(l0gate.report(*made(Budget(parameters=0.6)), known))
    assert "Budget: 70 of 118 parameters; the small model has 65 (55.1%)." in text
    assert "The whole model" not in text
