"""`l0gate.gate` checks its arguments, and hands them to the backend of the model."""

from __future__ import annotations

from typing import Any

import pytest

from l0gate import Backend, Budget, HardConcrete, L0GateError, Layout, gate

LAYOUT = Layout({"w": "h <- h"})
BUDGET = Budget(parameters=0.5)


def test_gating_hands_everything_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Gating(Backend):
        def gate_model(self, model: Any, **options: Any) -> Any:
            given.append((model, options))
            return "gated"

    monkeypatch.setattr("l0gate._gate.get_backend", lambda model: Gating())
    with pytest.raises(L0GateError) as error:
        gate("model", layout=LAYOUT)
    assert str(error.value) == "give `budget` or `strength`"
    options: dict[str, Any] = {
        **{"example_inputs": (1,), "layout": LAYOUT, "budget": BUDGET, "strength": None},
        **{"gates": HardConcrete(), "equal": True, "freeze": ["h"], "gate_learning_rate": 0.1},
    }
    for changes in ({}, {"budget": None, "strength": 0.5}):
        assert gate("model", **{**options, **changes}) == "gated"
        assert given.pop() == ("model", {**options, **changes})
    assert gate("model", strength=0.0) == "gated"
    nothing = dict.fromkeys(("example_inputs", "layout", "budget", "gates"))
    assert given == [("model", {**nothing, "strength": 0.0})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": {"w": "h <- h"}}, "`layout` is a dict; it must be a Layout, such as"),
        ({"layout": "h <- h"}, "`layout` is a str; it must be a Layout"),
        ({"budget": 0.2}, r"`budget` is 0.2; it must be a Budget, such as l0gate.Budget\(param"),
        ({"budget": None, "strength": "1"}, "`strength` is '1'; it must be a number"),
        ({"gates": 0.5}, "`gates` is 0.5; it must be a HardConcrete"),
        ({"equal": "yes"}, "`equal` is 'yes'; it must be True or False"),
        ({"freeze": "h0"}, "`freeze` is 'h0'; it must be a list of axes"),
        ({"freeze": [1]}, r"`freeze` is \[1\]; it must be a list of axes"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        gate("model", **{"budget": BUDGET, **options})


def test_a_class_is_no_model() -> None:
    with pytest.raises(L0GateError, match="`model` is the class Layout; give a model"):
        gate(Layout, budget=BUDGET)


def test_a_misspelled_keyword_is_named_by_gate_itself() -> None:
    with pytest.raises(TypeError, match=r"gate\(\) got an unexpected keyword argument 'warmstart'"):
        gate("model", budget=BUDGET, warmstart=True)  # type: ignore[call-arg]
