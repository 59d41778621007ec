"""The hard-concrete distribution of one gate (Louizos, Welling, Kingma, arXiv 1712.01312)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from l0gate._backend import Array, Backend, sigmoid
from l0gate._errors import check

JITTER = 0.01  # a new log_alpha gets noise in (0, JITTER), so that gates differ


@dataclass(frozen=True)
class HardConcrete:
    """Random gates in [0, 1] that are exactly 0 or 1 with a probability above 0.

    A sample is clip(s (zeta - gamma) + gamma, 0, 1) with
    s = sigmoid((log u - log(1 - u) + log_alpha) / beta) and u uniform in (0, 1).

    `rule` chooses the gate at test time. "mean", as published, is
    clip(sigmoid(log_alpha) (zeta - gamma) + gamma, 0, 1). "median" divides log_alpha by beta first,
    so the gate is 0 exactly if its probability of being open is at most 1/2. `initial` is the
    test-time gate at the start of training. log_alpha is kept in [`lowest`, `highest`].

    Every method takes log_alpha as an array of any shape and returns the same shape and dtype;
    methods ending in `_gradient` are derivatives in log_alpha.

    >>> import numpy as np
    >>> gates = HardConcrete()
    >>> gates.test_gate(np.array([-3.0, 0.0, 3.0])).round(3).tolist()
    [0.0, 0.5, 1.0]
    >>> gates.open_probability(np.array([0.0])).round(3).tolist()
    [0.832]
    >>> round(gates.initial_log_alpha(0.25), 3)
    -0.887
    """

    beta: float = 2 / 3
    gamma: float = -0.1
    zeta: float = 1.1
    rule: Literal["mean", "median"] = "mean"
    initial: float = 1.0
    lowest: float = -8.0
    highest: float = 5.0

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "zeta", "initial", "lowest", "highest"):
            value = getattr(self, name)
            check(
                isinstance(value, Real) and math.isfinite(value),
                f"`{name}` is {value!r}; it must be a finite number",
            )
        check(self.beta > 0, f"`beta` is {self.beta}; it must be above 0")
        check(self.gamma < 0, f"`gamma` is {self.gamma}; it must be below 0")
        check(self.zeta > 1, f"`zeta` is {self.zeta}; it must be above 1")
        valid = isinstance(self.rule, str) and self.rule in ("mean", "median")
        check(valid, f"`rule` is {self.rule!r}; 'mean' or 'median'")
        check(0 < self.initial <= 1, f"`initial` is {self.initial}; it must be in (0, 1]")
        closed = self.initial_log_alpha(0.0)
        start = self.initial_log_alpha(self.initial)
        check(
            self.lowest < closed and self.highest > start,
            f"`lowest` and `highest` are {self.lowest} and {self.highest}; they must leave room"
            f" for a closed gate ({closed:.3f}) and for the initial one ({start:.3f})",
        )

    def sample(self, log_alpha: Array, u: Array, backend: Backend | None = None) -> Array:
        """Sampled gates, one for each uniform number u in (0, 1)."""
        backend = _backend(backend, log_alpha)
        return backend.xp.clip(self._stretched(backend, log_alpha, u), 0.0, 1.0)

    def sample_gradient(self, log_alpha: Array, u: Array, backend: Backend | None = None) -> Array:
        """d sample / d log_alpha: 0 where the gate is exactly 0 or 1."""
        backend = _backend(backend, log_alpha)
        return self._gradient(backend, self._stretched(backend, log_alpha, u), self.beta)

    def test_gate(self, log_alpha: Array, backend: Backend | None = None) -> Array:
        """The gate for evaluation and shrinking, without noise, by `rule`."""
        backend = _backend(backend, log_alpha)
        return backend.xp.clip(self._stretched(backend, log_alpha), 0.0, 1.0)

    def test_gate_gradient(self, log_alpha: Array, backend: Backend | None = None) -> Array:
        """d test_gate / d log_alpha."""
        backend = _backend(backend, log_alpha)
        return self._gradient(backend, self._stretched(backend, log_alpha), self._temperature)

    def open_probability(self, log_alpha: Array, backend: Backend | None = None) -> Array:
        """P(gate > 0) when sampled: sigmoid(log_alpha - beta log(-gamma / zeta))."""
        backend = _backend(backend, log_alpha)
        return sigmoid(backend, log_alpha - self.beta * math.log(-self.gamma / self.zeta))

    def open_probability_gradient(self, log_alpha: Array, backend: Backend | None = None) -> Array:
        """d open_probability / d log_alpha."""
        p = self.open_probability(log_alpha, backend)
        return p * (1.0 - p)

    def initial_log_alpha(self, gate: float) -> float:
        """A log_alpha whose test-time gate is `gate`.

        Many values give a gate of exactly 1 or 0: the result is then the smallest that gives 1,
        or the largest that gives 0.
        """
        check(
            isinstance(gate, Real) and 0 <= gate <= 1, f"`gate` is {gate!r}; it must be in [0, 1]"
        )
        s = (gate - self.gamma) / (self.zeta - self.gamma)
        return self._temperature * math.log(s / (1.0 - s))

    def clamp(self, log_alpha: Array, backend: Backend | None = None) -> Array:
        """log_alpha within [`lowest`, `highest`]."""
        backend = _backend(backend, log_alpha)
        return backend.xp.clip(log_alpha, self.lowest, self.highest)

    # The names of 0.1.0.
    sample_slope = sample_gradient
    test_gate_slope = test_gate_gradient
    open_probability_slope = open_probability_gradient

    @property
    def _temperature(self) -> float:
        return self.beta if self.rule == "median" else 1.0

    def _stretched(self, backend: Backend, log_alpha: Array, u: Array | None = None) -> Array:
        if u is None:
            s = sigmoid(backend, log_alpha / self._temperature)
        else:
            logit = backend.xp.log(u) - backend.xp.log1p(-u)
            s = sigmoid(backend, (logit + log_alpha) / self.beta)
        return s * (self.zeta - self.gamma) + self.gamma

    def _gradient(self, backend: Backend, stretched: Array, temperature: float) -> Array:
        s = (stretched - self.gamma) / (self.zeta - self.gamma)
        gradient = s * (1.0 - s) * ((self.zeta - self.gamma) / temperature)
        inside = (stretched > 0.0) & (stretched < 1.0)
        return backend.xp.where(inside, gradient, 0.0 * gradient)


def _backend(backend: Backend | None, array: Array) -> Backend:
    if backend is not None:
        return backend
    from l0gate._registry import get_backend

    return get_backend(array)
