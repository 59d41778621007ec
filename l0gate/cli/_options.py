"""The options of a job, checked, and the net, the pruner and the training tasks made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._method import get_method
from l0gate._pruner import Pruner
from l0gate._registry import L0, get_backend
from l0gate.cli._text import Corpus
from l0gate.cli._training import Task

CELLS = ("lstm", "gru")
_BUDGET = "a fraction such as 20% or 0.2 (above 0, at most 100%), or a whole number of parameters"

TEACHERS = ("dense", "none")


@dataclass(frozen=True)
class Options:
    """All settings that affect the results of a training job, except the training text."""

    cell: str
    hidden: tuple[int, ...]
    embedding: int
    budget: str | None
    strength: float | None
    backend: str
    steps: int
    batch: int
    length: int
    seed: int
    rate: float
    gate_rate: float
    method: str = L0
    teacher: str = TEACHERS[0]

    def __post_init__(self) -> None:
        check(self.cell in CELLS, f"`--cell` is {self.cell!r}; allowed: {', '.join(CELLS)}")
        check(len(self.hidden) > 0, "`--hidden` is empty; give one size per layer")
        for name, values in (
            ("--hidden", self.hidden),
            ("--embedding", (self.embedding,)),
            ("--steps", (self.steps,)),
            ("--batch", (self.batch,)),
            ("--length", (self.length,)),
        ):
            for value in values:
                check(value >= 1, f"`{name}` is {value}; it must be at least 1")
        check(0 <= self.seed < 2**63, f"`--seed` is {self.seed}; it must be at least 0, below 2^63")
        for name, rate in (("--lr", self.rate), ("--gate-lr", self.gate_rate)):
            check(0 < rate < math.inf, f"`{name}` is {rate}; it must be a number above 0")
        check(
            self.budget is None or self.strength is None,
            "give `--budget` or `--strength`, not both",
        )
        check(
            self.strength is None or 0 <= self.strength < math.inf,
            f"`--strength` is {self.strength}; it must be a finite number of at least 0",
        )
        if self.budget is not None:
            parse_budget(self.budget)
        check(
            self.teacher in TEACHERS,
            f"`--teacher` is {self.teacher!r}; allowed: {', '.join(TEACHERS)}",
        )
        try:
            method = get_method(self.method)
        except L0GateError as error:
            raise L0GateError(f"`--method`: {error}") from None
        check(
            method.trains_gates or self.strength is None,
            f"`--method` is {self.method!r}, which needs a `--budget`, not a `--strength`",
        )

    def job(self, corpus: Corpus) -> dict[str, Any]:
        """The settings that a checkpoint stores. A job can resume only with the same ones."""
        return {**asdict(self), "hidden": list(self.hidden), "text": corpus.digest()}

    @property
    def chain(self) -> Chain:
        """An embedding, recurrent layers, and a linear layer with an output per token."""
        return Chain(
            [
                {"type": "embedding", "name": "embedding"},
                {"type": self.cell, "name": "rnn", "num_layers": len(self.hidden)},
                {"type": "linear", "name": "decoder"},
            ]
        )

    def pruner(self) -> Pruner:
        """A pruner for the neurons of the embedding and of every hidden layer."""
        budget = (
            None
            if self.budget is None
            else Budget(parameters=parse_budget(self.budget), of="recurrent")
        )
        return Pruner(self.chain.layout, budget, self.strength, method=self.method)

    def task(
        self,
        corpus: Corpus,
        pruner: Pruner | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> Task:
        """How to train the dense net or, if `sizes` maps axes to sizes, a net of these sizes."""
        backend = self.load_backend()
        hidden = [sizes[f"h{i}"] if sizes else size for i, size in enumerate(self.hidden)]
        return Task(
            backend,
            backend.net([dict(layer) for layer in self.chain.layers]),
            {
                "embedding": sizes["x"] if sizes else self.embedding,
                "rnn": hidden,
                "decoder": len(corpus.vocabulary),
            },
            pruner,
            corpus.splits["train"],
            len(corpus.vocabulary),
            self.steps,
            self.batch,
            self.length,
            self.seed,
            self.rate,
            self.gate_rate,
        )

    def load_backend(self) -> Backend:
        """The backend. Raises if it cannot train nets."""
        try:
            backend = get_backend(self.backend)
        except L0GateError as error:
            raise L0GateError(f"`--backend`: {error}") from None
        check(
            "nets" in backend.capabilities,
            f"`--backend` is {self.backend!r}, which cannot train nets (it lacks 'nets')",
        )
        return backend


def parse_budget(text: str) -> float | int:
    """The number for `l0gate.Budget`: a float is a fraction, an int a number of parameters.

    >>> parse_budget("20%"), parse_budget("0.2"), parse_budget("150000")
    (0.2, 0.2, 150000)
    >>> parse_budget("150%")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `--budget` is '150%'; it must be a fraction such as 20% or 0.2 \
(above 0, at most 100%), or a whole number of parameters
    """
    try:
        value: float | int
        if text.endswith("%"):
            value = float(text[:-1]) / 100
        elif text.isdecimal():
            value = int(text)
        else:
            value = float(text)
    except ValueError:
        value = math.nan
    valid = value >= 1 if isinstance(value, int) else 0 < value <= 1
    check(valid, f"`--budget` is {text!r}; it must be {_BUDGET}")
    return value
