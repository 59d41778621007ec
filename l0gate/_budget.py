"""`Budget`: what the small model may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.layout.cost import MEASURES, Cost


@dataclass(frozen=True)
class Budget:
    """A target for the size of the small model: exactly one of `parameters`, `bytes` and
    `multiply_adds` (per time step).

    A float in (0, 1] is a fraction of the dense model, an int an absolute number. `of` says what
    is counted: "layout" (default: every parameter in the layout), "recurrent" (the weight matrices
    of recurrent layers) or a sequence of parameter names.

    During training the expected size s, as a fraction of the dense one, follows a target t that
    falls linearly from 1 over the first `warmup` of training. The penalty is
    l1 (s - t) + l2 (s - t)^2, and the multipliers rise by gradient ascent: per optimizer step
    l1 by `rate[0]` (s - t) and l2 by `rate[1]` (s - t)^2 (Wang, Wohlwend, Lei, "Structured pruning
    of large language models", EMNLP 2020). At the fraction `settle` of training, the neurons to
    keep are chosen. The rest of training adapts the weights to this choice.

    >>> Budget(parameters=0.1)
    Budget(parameters=0.1)
    >>> Budget(parameters=0)
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `parameters` is 0; it must be above 0
    """

    parameters: float | int | None = None
    bytes: float | int | None = None
    multiply_adds: float | int | None = None
    of: str | Sequence[str] = "layout"
    warmup: float = 0.4
    settle: float = 0.6
    rate: tuple[float, float] = (0.2, 2.0)

    def __post_init__(self) -> None:
        given = [m for m in MEASURES if getattr(self, m) is not None]
        check(
            len(given) == 1,
            f"a budget takes exactly one of {', '.join(f'`{m}`' for m in MEASURES)}; given were"
            f" {', '.join(given) or 'none'}",
        )
        value = getattr(self, given[0])
        shown = f"`{given[0]}` is {value!r}"
        if isinstance(value, (bool, np.bool_)) or not isinstance(
            value, (int, float, np.integer, np.floating)
        ):
            raise L0GateError(f"{shown}; it must be a float in (0, 1] or an int above 0")
        if isinstance(value, (float, np.floating)):
            check(
                0 < value <= 1,
                f"{shown}; a float is a fraction in (0, 1], an int absolute",
            )
        check(value > 0, f"{shown}; it must be above 0")
        check(
            isinstance(self.of, (str, list, tuple)) and all(isinstance(n, str) for n in self.of),
            f"`of` is {self.of!r}; it must be 'layout', 'recurrent' or a list of parameter names",
        )
        check(
            isinstance(self.warmup, Real)
            and isinstance(self.settle, Real)
            and 0 <= self.warmup <= self.settle <= 1,
            f"`warmup` and `settle` are {self.warmup} and {self.settle};"
            " they must satisfy 0 <= warmup <= settle <= 1 (fractions of training)",
        )
        check(
            isinstance(self.rate, (list, tuple))
            and len(self.rate) == 2
            and all(isinstance(r, Real) and 0 <= r < math.inf for r in self.rate),
            f"`rate` is {self.rate}; it must be two finite numbers of at least 0",
        )

    def __repr__(self) -> str:
        shown = [f"{self.measure}={self.value!r}"]
        for name in ("of", "warmup", "settle", "rate"):
            if getattr(self, name) != getattr(type(self), name):
                shown.append(f"{name}={getattr(self, name)!r}")
        return f"Budget({', '.join(shown)})"

    @property
    def measure(self) -> str:
        """Which of "parameters", "bytes" and "multiply_adds" is limited."""
        return next(m for m in MEASURES if getattr(self, m) is not None)

    @property
    def value(self) -> float | int:
        """The number given for the measure: a fraction (float) or an absolute number (int)."""
        value: float | int = getattr(self, self.measure)
        return value

    def limit(self, cost: Cost, frozen: Sequence[str] = ()) -> int:
        """The budget as an absolute number, for a model with the given cost.

        Raises if one neuron per axis, and all neurons of the `frozen` axes, would cost more.
        """
        value = self.value
        if isinstance(value, (float, np.floating)):
            # 0.29 of 100 is 28.999999999999996 in floating point.
            limit: int = math.floor(float(value) * cost.total * (1 + 1e-12))
        else:
            limit = int(value)
            check(
                limit <= cost.total,
                f"`{self.measure}` is {limit}; the dense model has only {cost.total}",
            )
        floor: int = cost.at({a: n if a in frozen else 1 for a, n in cost.sizes.items()})
        check(
            limit >= floor,
            f"`{self.measure}` is {value!r}, which allows {limit} of {cost.total}; the least is"
            f" {floor} ({floor / cost.total:.1%}), with one neuron left per axis"
            + (f" and all of {', '.join(map(repr, frozen))}, which are frozen" if frozen else ""),
        )
        return limit
