"""`l0gate.report`: figures that agree with `shrink`, and what is refused."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_cases import GATES, LAYOUT, PARAMETERS, Gated, made, report_of

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner


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
    assert "frozen: the caller sees it" in str(gated)
    assert gated.total()[0] == sum(p.size for p in PARAMETERS.values())


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
