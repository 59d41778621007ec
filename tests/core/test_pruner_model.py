"""What a pruner is given, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pruner_cases import LAYOUT, fresh

from l0gate import Budget, L0GateError, Pruner

BAD = [
    (lambda: Pruner({"w": "_ <- x"}), "`layout` is"),
    (lambda: Pruner(LAYOUT, 0.1), "`budget` is 0.1; it must be a Budget"),
    (lambda: Pruner(LAYOUT, Budget(parameters=0.1), 1.0), "not both"),
    (lambda: Pruner(LAYOUT, strength=-1), "`strength` is -1"),
    (lambda: Pruner(LAYOUT).cost, "a state that was saved, `bind(parameters)`"),
    (
        lambda: Pruner(LAYOUT).kept(fresh()[2]),
        "the pruner has met no parameters yet; call `init(parameters)`, or",
    ),
    (lambda: Pruner(LAYOUT, gates=5), "`gates` is 5"),
    (lambda: Pruner(LAYOUT, freeze="h0"), "`freeze` is ['h0']"),
    (lambda: Pruner(LAYOUT).init({}), "names the parameter 'embedding.weight', which the model"),
    (lambda: Pruner(LAYOUT).init({"embedding.weight": 3}), "is int; it must be an array"),
    (lambda: fresh()[0].init(fresh()[1], np.random.default_rng(0)), "`rng` is Generator"),
    (lambda: fresh()[0].init(fresh()[1], -1), "`seed` is -1"),
    (
        lambda: Pruner(LAYOUT).init({n: v.astype(int) for n, v in fresh()[1].items()}),
        "has dtype int64; one that reads gated neurons must be of floating point",
    ),
    (lambda: fresh(Budget(parameters=1e-6)), "with one neuron left per axis"),
    (lambda: fresh()[0].penalty(fresh()[2], 0.5), "neither `budget` nor `strength`"),
]


@pytest.mark.parametrize(("action", "message"), BAD)
def test_bad_use(action: Any, message: str) -> None:
    with pytest.raises(L0GateError, match=re.escape(message)):
        action()
