"""The options of a job: what is refused, and the net, pruner and task made from them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError, Pruner
from l0gate.cli._options import Options, parse_budget
from l0gate.cli._text import (
    Corpus,
)

OPTIONS = Options("lstm", (6, 5), 4, "50%", None, "numpy", 10, 2, 3, 7, 0.01, 0.06)


CORPUS = Corpus("a text", "character", ("a", "b", "c"), {"train": np.arange(3, dtype=np.int32)}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "`--cell` is 'rnn'; allowed: lstm, gru"),
        ({"hidden": ()}, "`--hidden` is empty; give one size per layer"),
        ({"hidden": (6, 0)}, "`--hidden` is 0; it must be at least 1"),
        ({"embedding": 0}, "`--embedding` is 0; it must be at least 1"),
        ({"steps": 0}, "`--steps` is 0; it must be at least 1"),
        ({"batch": -1}, "`--batch` is -1; it must be at least 1"),
        ({"length": 0}, "`--length` is 0; it must be at least 1"),
        ({"seed": -1}, "`--seed` is -1; it must be at least 0, below 2^63"),
        ({"seed": 2**63}, f"`--seed` is {2**63}; it must be at least 0, below 2^63"),
        ({"rate": 0.0}, "`--lr` is 0.0; it must be a number above 0"),
        ({"rate": math.inf}, "`--lr` is inf; it must be a number above 0"),
        ({"gate_rate": math.nan}, "`--gate-lr` is nan; it must be a number above 0"),
        ({"teacher": "gated"}, "`--teacher` is 'gated'; allowed: dense, none"),
        ({"strength": 0.1}, "give `--budget` or `--strength`, not both"),
        (
            {"budget": None, "strength": -1.0},
            "`--strength` is -1.0; it must be a finite number of at least 0",
        ),
        (
            {"budget": None, "strength": math.inf},
            "`--strength` is inf; it must be a finite number of at least 0",
        ),
        (
            {"budget": "much"},
            "`--budget` is 'much'; it must be a fraction such as 20% or 0.2 (above 0, at most"
            " 100%), or a whole number of parameters",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as error:
        replace(OPTIONS, **change)
    assert str(error.value) == message


def test_options_at_their_limits_are_taken() -> None:
    ones = {"hidden": (1,), "embedding": 1, "steps": 1, "batch": 1, "length": 1}
    replace(OPTIONS, **ones, cell="gru", seed=2**63 - 1, rate=1e-9)
    replace(OPTIONS, seed=0, budget=None, strength=0.0)
    replace(OPTIONS, budget=None, strength=1e6)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("20%", 0.2), ("100%", 1.0), ("0.5", 0.5), ("1.0", 1.0), ("1", 1), ("150000", 150000)],
)
def test_budgets(text: str, budget: float) -> None:
    found = parse_budget(text)
    assert found == budget
    assert type(found) is type(budget)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "101%", "1.5", "-1", "nan", "inf", "2 MB"])
def test_what_is_no_budget(text: str) -> None:
    message = f"`--budget` is {text!r}; it must be a fraction"
    with pytest.raises(L0GateError, match=re.escape(message)):
        parse_budget(text)


def test_methods_of_a_job() -> None:
    assert OPTIONS.pruner().trains_gates
    assert not replace(OPTIONS, method="iss").pruner().trains_gates
    assert repr(replace(OPTIONS, method="iss").pruner().method).startswith("GroupLasso(")
    with pytest.raises(L0GateError, match="`--method`: `method` is 'lasso'; registered are 'l0',"):
        replace(OPTIONS, method="lasso")
    with pytest.raises(L0GateError, match="`--method` is 'random', which needs a `--budget`"):
        replace(OPTIONS, budget=None, strength=0.1, method="random")


def test_the_nets_of_a_job() -> None:
    assert tuple(OPTIONS.chain.layout.axes) == ("x", "h0", "h1")
    assert OPTIONS.job(CORPUS) == {
        **{"cell": "lstm", "hidden": [6, 5], "embedding": 4, "budget": "50%", "strength": None},
        **{"backend": "numpy", "steps": 10, "batch": 2, "length": 3, "seed": 7},
        **{
            "rate": 0.01,
            "gate_rate": 0.06,
            "method": "l0",
            "teacher": "dense",
            "text": CORPUS.digest(),
        },
    }
    pruner = OPTIONS.pruner()
    assert (pruner.budget.parameters, pruner.budget.of) == (0.5, "recurrent")
    assert pruner.strength is None
    pruner = replace(OPTIONS, budget=None, strength=0.25).pruner()
    assert (pruner.budget, pruner.strength) == (None, 0.25)


def test_the_task_of_a_job() -> None:
    pruner = Pruner(OPTIONS.chain.layout, strength=0.1)
    task = OPTIONS.task(CORPUS, pruner)
    assert task.sizes == {"embedding": 4, "rnn": [6, 5], "decoder": 3}
    assert (task.pruner, task.vocabulary, task.backend.name) == (pruner, 3, "numpy")
    assert task.tokens is CORPUS.splits["train"]
    assert (task.steps, task.batch, task.length, task.seed) == (10, 2, 3, 7)
    assert (task.rate, task.gate_rate) == (0.01, 0.06)
    assert [layer["type"] for layer in task.net.layers] == ["embedding", "lstm", "linear"]
    small = OPTIONS.task(CORPUS, sizes={"x": 3, "h0": 2, "h1": 1})
    assert small.sizes == {"embedding": 3, "rnn": [2, 1], "decoder": 3}
    assert small.pruner is None


def test_backends_that_cannot_do_the_job() -> None:
    with pytest.raises(L0GateError, match=r"^`--backend`: `backend` is 'nunpy'"):
        replace(OPTIONS, backend="nunpy").load_backend()
