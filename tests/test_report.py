"""The report of a gate state: figures that agree with `shrink`, text, JSON and picture."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner
from l0gate.reports.data import AxisReport, BudgetReport, PartReport
from l0gate.reports.report import Report

PARAMETERS = {
    "embedding.weight": np.ones((7, 4)),
    "rnn.w": np.ones((12, 4)),
    "rnn.u": np.ones((12, 3), np.float32),
    "decoder.weight": np.ones((2, 3)),
    "scale": np.ones(5),
}
LAYOUT = Layout(
    {
        "embedding.weight": "_ -> x",
        "rnn.w": "(4 h) <- x",
        "rnn.u": "(4 h) <- h",
        "decoder.weight": "_ <- h",
    },
    uses={"embedding.weight": 0},
)
GATES = {"x": [3.0, 0.0, -1.0, -5.0], "h": [3.0, -5.0, 0.5]}


def made(budget: Budget | None = None, **options: Any) -> tuple[Pruner, dict[str, Any]]:
    pruner = Pruner(LAYOUT, budget, None if budget else 1e-3, **options)
    gates = {axis: values for axis, values in GATES.items() if axis not in pruner.freeze}
    return pruner, pruner.init(PARAMETERS, log_alpha=gates)


class Gated:
    """The least that `report` asks of a gated model."""

    frozen = {"x": "the caller sees it"}  # noqa: RUF012

    def __init__(self) -> None:
        self.pruner, self.state = made(freeze=["x"])

    def gate_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self.state, PARAMETERS


def test_the_axes_as_their_gates_are() -> None:
    rows = l0gate.report(*made()).to_dict()["axes"]
    x = {"axis": "x", "before": 4, "open": 1, "half_open": 2, "closed": 1, "after": 3}
    h = {"axis": "h", "before": 3, "open": 1, "half_open": 1, "closed": 1, "after": 2}
    assert rows == [{**x, "frozen": None}, {**h, "frozen": None}]


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
def test_after_is_what_shrink_keeps() -> None:
    pruner, state = made(Budget(parameters=0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = l0gate.report(pruner, state, PARAMETERS)
    with pytest.warns(UserWarning, match="were cut to meet the budget"):
        small, kept = pruner.shrink(PARAMETERS, state)
    assert {a.axis: a.after for a in found.axes} == {a: len(index) for a, index in kept.items()}
    assert found.total() == tuple(
        sum(p.size for p in given.values()) for given in (PARAMETERS, small)
    )
    assert found.total("bytes") == tuple(
        sum(p.nbytes for p in given.values()) for given in (PARAMETERS, small)
    )
    assert not found.selected
    assert found.budget.after <= found.budget.limit == pruner.limit


def test_what_each_part_costs() -> None:
    parts = {p.part: p for p in l0gate.report(*made(), PARAMETERS).parts}
    assert list(parts) == ["embedding", "rnn", "decoder", "not in the layout"]
    assert parts["rnn"].parameters == ("rnn.w", "rnn.u")
    assert parts["rnn"].before == {
        "parameters": 84,
        "bytes": 48 * 8 + 36 * 4,
        "multiply_adds": 84,
    }
    assert parts["rnn"].after["parameters"] == 8 * 3 + 8 * 2
    assert parts["embedding"].after == {"parameters": 21, "bytes": 168, "multiply_adds": 0}
    outside = {"parameters": 5, "bytes": 40, "multiply_adds": None}
    assert parts["not in the layout"].before == parts["not in the layout"].after == outside


def test_layers_and_directions_are_parts_of_their_own() -> None:
    layout = Layout.lstm(2, bidirectional=True)
    shapes = {"embedding.weight": (9, 4), "decoder.weight": (9, 6), "decoder.bias": (9,)}
    for k, width in ((0, 4), (1, 6)):
        for suffix in ("", "_reverse"):
            shapes[f"rnn.weight_ih_l{k}{suffix}"] = (12, width)
            shapes[f"rnn.weight_hh_l{k}{suffix}"] = (12, 3)
            shapes[f"rnn.bias_ih_l{k}{suffix}"] = shapes[f"rnn.bias_hh_l{k}{suffix}"] = (12,)
    parameters = {name: np.ones(shape) for name, shape in shapes.items()}
    pruner = Pruner(layout, strength=0.0)
    found = l0gate.report(pruner, pruner.init(parameters), parameters)
    names = ["rnn (f0)", "rnn (b0)", "rnn (f1)", "rnn (b1)"]
    assert [p.part for p in found.parts] == ["embedding", *names, "decoder"]
    assert found.parts[1].before["parameters"] == 12 * 4 + 12 * 3 + 24


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
def test_after_the_selection() -> None:
    pruner, state = made(Budget(parameters=0.25, of="recurrent"))
    state = pruner.select(pruner.update(state, 0.75), PARAMETERS)
    found = l0gate.report(pruner, state, PARAMETERS)
    assert found.selected
    assert found.progress == 0.75
    assert (found.forced_open, found.forced_closed) == tuple(state["forced"])
    assert found.forced_open + found.forced_closed > 0
    assert found.budget.before == 84
    assert found.budget.target == found.budget.goal == 0.25
    assert f"against their gates, {found.forced_open} were opened" in str(found)
    assert "21 of 84 recurrent parameters" in str(found)


def test_without_parameters_there_are_no_parts() -> None:
    found = l0gate.report(*made())
    assert found.parts == ()
    assert found.to_dict()["total"] is None
    assert "part" not in str(found).split()
    assert found.budget.limit is None
    assert "Of 118 parameters the small model has 65" in str(found)
    assert "The whole model" not in str(found)
    with pytest.raises(L0GateError, match="give `parameters` to `report`"):
        found.total()


def test_a_frozen_axis_says_why() -> None:
    by_hand, gated = l0gate.report(*made(freeze=["x"])), l0gate.report(Gated())
    assert by_hand.axes[0].frozen == "named in `freeze`"
    assert gated.axes[0].frozen == "the caller sees it"
    assert (gated.axes[0].open, gated.axes[0].after, gated.axes[1].frozen) == (4, 4, None)
    assert "whole: the caller sees it" in str(gated)
    assert gated.total()[0] == sum(p.size for p in PARAMETERS.values())


def test_json_holds_every_figure() -> None:
    found = l0gate.report(*made(Budget(bytes=0.5, of=["rnn.w", "rnn.u"])), PARAMETERS)
    content = found.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["total"]["after"]["parameters"] == found.total()[1]
    assert content["budget"]["of"] == ["rnn.w", "rnn.u"]
    assert "bytes of rnn.w, rnn.u" in str(found)


def test_a_gated_torch_model() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    layout = Layout({"0.weight": "h <- _", "0.bias": "h", "2.weight": "_ <- h"})
    gated = l0gate.gate(
        model, example_inputs=torch.ones(1, 3), layout=layout, strength=1e-3, freeze=["h"]
    )
    found = l0gate.report(gated)
    assert found.total() == (8 * 3 + 8 + 16 + 2,) * 2
    assert [p.part for p in found.parts] == ["0", "2", "not in the layout"]
    assert found.axes[0].frozen == gated.frozen["h"]


@pytest.mark.parametrize(
    ("suffix", "parameters"), [(".png", None), (".PDF", PARAMETERS), (".svg", PARAMETERS)]
)
def test_the_picture(tmp_path: Path, suffix: str, parameters: Any) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"report{suffix}"
    l0gate.report(*made(Budget(parameters=0.5), freeze=["x"]), parameters).plot(path)
    start = {".png": b"\x89PNG", ".PDF": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruner, state = made()
    with pytest.raises(L0GateError, match="`gated` is int; it must be a gated model"):
        l0gate.report(3)
    with pytest.raises(L0GateError, match="`state` is None; with a Pruner"):
        l0gate.report(pruner)
    with pytest.raises(L0GateError, match="give `state` and `parameters` with a Pruner only"):
        l0gate.report(Gated(), state)
    with pytest.raises(L0GateError, match="has met no parameters yet"):
        l0gate.report(Pruner(LAYOUT, strength=0.0), state)
    found = l0gate.report(pruner, state, PARAMETERS)
    with pytest.raises(L0GateError, match="`measure` is 'speed'"):
        found.total("speed")
    with pytest.raises(L0GateError, match=r"must end in \.png, \.pdf, \.svg"):
        found.plot(tmp_path / "report.jpg")
    monkeypatch.setitem(sys.modules, "l0gate.reports.picture", None)
    with pytest.raises(L0GateError, match=r"l0gate\[plot\]"):
        found.plot(tmp_path / "report.png")


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


# The text, word by word --------------------------------------------------------------------------


def test_the_text_of_a_report() -> None:
    pruner, state = made(Budget(parameters=0.7), freeze=["x"])
    pruner.bind(PARAMETERS)
    assert str(l0gate.report(pruner, state, PARAMETERS)).splitlines() == [
        "axis  before  open  half-open  closed  after",
        "x          4     4          0       0      4  whole: named in `freeze`",
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


def expected(pruner: Pruner, state: dict[str, Any]) -> float:
    return float(pruner.expected_size(state)) / pruner.cost.total


def report_of(**changes: Any) -> Report:
    """A report of large figures, decided, without a budget, unless it is told otherwise."""
    cost = {"parameters": 2500000.0, "bytes": 1e7, "multiply_adds": 2500000.0}
    less = {"parameters": 1000000.0, "bytes": 4e6, "multiply_adds": 1000000.0}
    nothing = dict.fromkeys(cost, 0)
    content: dict[str, Any] = {
        "axes": (AxisReport("h", 12345, 10000, 0, 2345, 10000, None),),
        "parts": (
            PartReport("rnn", ("rnn.w",), cost, less),
            PartReport("empty", ("e",), nothing, nothing),
        ),
        "budget": BudgetReport(
            "multiply_adds", ("a", "b"), 2500000, 1000000, 0.4, None, None, None
        ),
        "progress": 1.0,
        "selected": True,
        "forced_open": 1,
        "forced_closed": 23,
    }
    return Report(**{**content, **changes})


def test_the_text_of_a_large_report() -> None:
    h = report_of().axes[0]
    frozen = [replace(h, axis=axis, frozen=reason) for axis, reason in (("x", "a"), ("y", "bc"))]
    assert str(report_of(axes=(h, *frozen))).splitlines() == [
        "axis  before    open  half-open  closed   after",
        "h     12,345  10,000          0   2,345  10,000",
        "x     12,345  10,000          0   2,345  10,000  whole: a",
        "y     12,345  10,000          0   2,345  10,000  whole: bc",
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
    ("call", "message"),
    [
        (
            lambda: l0gate.report(made()[0], {"gates": 1}),
            "`state` is {'gates': 1}; with a Pruner it must be a gate state, as `init` returns",
        ),
        (
            lambda: l0gate.report(SimpleNamespace(pruner=made()[0])),
            "`gated` is SimpleNamespace; it must be a gated model, with `pruner` and"
            " `gate_state()`, or a Pruner",
        ),
        (
            lambda: l0gate.report(SimpleNamespace(gate_state=None)),
            "`gated` is SimpleNamespace; it must be a gated model, with `pruner` and"
            " `gate_state()`, or a Pruner",
        ),
        (
            lambda: l0gate.report(Gated(), None, PARAMETERS),
            "give `state` and `parameters` with a Pruner only; a gated model has its own",
        ),
        (
            lambda: report_of().plot("report.jpg"),
            "`path` is 'report.jpg'; its name must end in .png, .pdf, .svg",
        ),
    ],
)
def test_refusals_word_by_word(call: Any, message: str) -> None:
    with pytest.raises(L0GateError) as error:
        call()
    assert str(error.value) == message


def test_a_gated_model_may_have_no_reasons() -> None:
    pruner, state = made(freeze=["x"])
    gated = SimpleNamespace(pruner=pruner, gate_state=lambda: (state, PARAMETERS))
    assert l0gate.report(gated).axes[0].frozen == "named in `freeze`"
    gated.frozen = ["x"]  # no dict
    assert l0gate.report(gated).axes[0].frozen == "named in `freeze`"


def test_without_a_budget_there_is_no_target() -> None:
    budget = l0gate.report(*made()).budget
    assert (budget.measure, budget.of, budget.before) == ("parameters", "layout", 118)
    assert (budget.target, budget.goal, budget.limit) == (None, None, None)


def test_parts_are_named_by_module_and_axes() -> None:
    layout = Layout(
        {
            "net.a.w": "x <- _",
            "net.a.v": "_ <- x",
            "net.b.w": "(x + y) <- x",
            "net.b.v": "y <- y",
            "net.b.out": "_ <- y",
        }
    )
    parameters = {
        **{"net.a.w": np.ones((2, 5)), "net.a.v": np.ones((5, 2)), "net.b.w": np.ones((5, 2))},
        **{"net.b.v": np.ones((3, 3)), "net.b.out": np.ones((4, 3))},
    }
    pruner = Pruner(layout, strength=0.0)
    found = l0gate.report(pruner, pruner.init(parameters), parameters)
    assert {part.part: part.parameters for part in found.parts} == {
        "net.a (x)": ("net.a.w",),
        "net.a (_)": ("net.a.v",),
        "net.b (x, y)": ("net.b.w",),
        "net.b (y)": ("net.b.v",),
        "net.b (_)": ("net.b.out",),
    }


def test_bytes_of_a_framework() -> None:
    torch = pytest.importorskip("torch")
    backend = l0gate.get_backend("torch")
    parameters = {
        **{name: torch.tensor(array) for name, array in PARAMETERS.items()},
        "scale": torch.ones(5, dtype=torch.bfloat16),
    }
    pruner = Pruner(LAYOUT, strength=1e-3, backend=backend)
    found = l0gate.report(pruner, pruner.init(parameters, log_alpha=GATES), parameters)
    sizes = {part.part: part.before["bytes"] for part in found.parts}
    assert sizes == {"embedding": 224, "rnn": 528, "decoder": 48, "not in the layout": 10}
    parameters["scale"] = torch.ones(5, dtype=torch.float64)
    assert (
        l0gate.report(pruner, pruner.init(parameters), parameters).parts[-1].before["bytes"] == 40
    )
