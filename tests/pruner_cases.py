"""A pruner with a fresh state, for tests of the pruner's parts."""

from __future__ import annotations

from typing import Any

from cases import arrays_for

import l0gate
from l0gate import Budget, Layout, Pruner

NUMPY = l0gate.get_backend("numpy")
LAYOUT = Layout.lstm(2)
LSTM_SIZES = {"x": 4, "h0": 5, "h1": 6}


def fresh(budget: Budget | None = None, **options: Any) -> tuple[Pruner, dict, dict]:
    pruner = Pruner(LAYOUT, budget, **options)
    parameters = arrays_for(LAYOUT, LSTM_SIZES)
    return pruner, parameters, pruner.init(parameters, 0)
