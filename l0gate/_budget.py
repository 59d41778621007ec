"""`Budget`: what the small model may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.layout.cost import MEASURES, Cost


def is_size(given: object) -> bool:
    """Whether a value is an int above 0."""
    whole = isinstance(given, (int, np.integer)) and not isinstance(given, (bool, np.bool_))
    return whole and given > 0  # type: ignore[operator]


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

    `round_to` and `sizes` say which numbers of neurons an axis may keep, for programs and hardware
    that take some only: multiples of `round_to`; the numbers in `sizes`, for all axes or, as a
    dict, for those that it names. An axis with fewer neurons than the least of them keeps all.
    Neurons that are kept only to reach such a number have closed gates, so they change no output.

    >>> Budget(parameters=0.1)
    Budget(parameters=0.1)
    >>> Budget(parameters=0.5, round_to=8).allowed({"h0": 20, "x": 3})
    {'h0': (8, 16), 'x': (3,)}
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
    round_to: int = 1
    sizes: Sequence[int] | Mapping[str, Sequence[int]] | None = None

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

        check(is_size(self.round_to), f"`round_to` is {self.round_to!r}; it must be an int above 0")
        lists = self.sizes.values() if isinstance(self.sizes, Mapping) else [self.sizes]
        check(
            self.sizes is None
            or all(isinstance(n, (list, tuple)) and n and all(map(is_size, n)) for n in lists),
            f"`sizes` is {self.sizes!r}; it must be a list of ints above 0, or a dict of such lists"
            " by axis",
        )

    def __repr__(self) -> str:
        shown = [f"{self.measure}={self.value!r}"]
        for name in ("of", "warmup", "settle", "rate", "round_to", "sizes"):
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

    def allowed(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]] | None:
        """The numbers of neurons that each axis may keep, given its size; None if any will do."""
        if self.sizes is None and self.round_to == 1:
            return None
        if isinstance(self.sizes, Mapping):
            unknown = sorted(set(self.sizes) - set(sizes))
            check(
                not unknown, f"`sizes` names the axes {unknown}; the layout has {', '.join(sizes)}"
            )
        found = {}
        for axis, size in sizes.items():
            own = self.sizes.get(axis) if isinstance(self.sizes, Mapping) else self.sizes
            fitting = [
                n
                for n in (range(1, size + 1) if own is None else sorted(set(own)))
                if n <= size and n % self.round_to == 0
            ]
            found[axis] = tuple(fitting) or (size,)
        return found

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
        allowed = self.allowed(cost.sizes)
        least = (
            dict.fromkeys(cost.sizes, 1)
            if allowed is None
            else {a: n[0] for a, n in allowed.items()}
        )
        floor: int = cost.at({a: n if a in frozen else least[a] for a, n in cost.sizes.items()})
        check(
            limit >= floor,
            f"`{self.measure}` is {value!r}, which allows {limit} of {cost.total}; the least is"
            f" {floor} ({floor / cost.total:.1%}), with"
            f" {'one neuron' if allowed is None else 'the fewest neurons allowed'} left per axis"
            + (f" and all of {', '.join(map(repr, frozen))}, which are frozen" if frozen else ""),
        )
        return limit
