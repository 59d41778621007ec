"""The readers: their layout, and that gates and padding change nothing."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from reading_cases import inputs
from scripts import ROOT
from torch_models import set_gates

import l0gate
from l0gate import Budget, Layout

PAGE = ROOT / "docs" / "reading.md"


def renamed(layout: Layout) -> list[tuple[str, str]]:
    """The patterns with axes named by their first place, so that names do not matter."""
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return names.setdefault(match.group(), f"n{len(names)}")

    return [
        (name, re.sub(r"[a-z]\w*", number, str(pattern)))
        for name, pattern in sorted(layout.to_dict().items())
    ]


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
