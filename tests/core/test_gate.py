"""`l0gate.gate` hands every option to the backend of the model."""

from __future__ import annotations

from typing import Any

import pytest

from l0gate import Backend, L0GateError, gate


def test_gating_hands_everything_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Gating(Backend):
        def gate_model(self, model: Any, **options: Any) -> Any:
            given.append((model, options))
            return "gated"

    monkeypatch.setattr("l0gate._gate.get_backend", lambda model: Gating())
    with pytest.raises(L0GateError) as error:
        gate("model", layout="layout")  # type: ignore[arg-type]
    assert str(error.value) == "give `budget` or `strength`"
    options: dict[str, Any] = {
        **{"example_inputs": (1,), "layout": "layout", "budget": "a budget", "strength": None},
        **{"gates": "rule", "equal": True},
    }
    for changes in ({}, {"budget": None, "strength": 0.5}):
        assert gate("model", **{**options, **changes}) == "gated"
        assert given.pop() == ("model", {**options, **changes})
    assert gate("model", strength=0.0) == "gated"
    nothing = dict.fromkeys(("example_inputs", "layout", "budget", "gates"))
    assert given == [("model", {**nothing, "strength": 0.0})]
