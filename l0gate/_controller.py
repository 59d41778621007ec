"""Controllers: how strongly the expected size is penalized while the gates train.

`expected` is the expected cost in the budget's measure, a scalar array.
"""

from __future__ import annotations

from typing import Any

from l0gate._backend import Array, Backend
from l0gate._budget import Budget
from l0gate._checks import check_progress
from l0gate._state import State


class Controller:
    """The interface of all controllers."""

    def penalty(self, expected: Array, state: State, progress: Any) -> Array:
        """What to add to the task loss for the expected size: a scalar."""
        raise NotImplementedError

    def penalty_gradient(self, expected: Array, state: State, progress: Any) -> Any:
        """d penalty / d expected."""
        raise NotImplementedError

    def update(self, expected: Array, state: State, progress: Any) -> dict[str, Array]:
        """The entries of the gate state that change after an optimizer step."""
        return {}


class FixedStrength(Controller):
    """The published objective: `strength` times the expected number of parameters (Wen et al.,
    arXiv 1906.06847)."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def penalty(self, expected: Array, state: State, progress: Any) -> Array:
        return self.strength * expected

    def penalty_gradient(self, expected: Array, state: State, progress: Any) -> Any:
        return self.strength


class Lagrangian(Controller):
    """Holds the expected size at the target by two multipliers, updated by gradient ascent.

    The penalty is l1 (s - t) + l2 (s - t)^2, where s is the expected size and t the target, both
    as fractions of the dense model (Wang, Wohlwend, Lei, EMNLP 2020): see `Budget`.
    """

    def __init__(self, budget: Budget, limit: float, dense: float, backend: Backend) -> None:
        self.budget, self.backend = budget, backend
        self.dense, self.final = float(dense), limit / dense

    def penalty(self, expected: Array, state: State, progress: Any) -> Array:
        excess, (first, second) = self._excess(expected, state, progress)
        return first * excess + second * excess**2

    def penalty_gradient(self, expected: Array, state: State, progress: Any) -> Any:
        excess, (first, second) = self._excess(expected, state, progress)
        return (first + 2.0 * second * excess) / self.dense

    def update(self, expected: Array, state: State, progress: Any) -> dict[str, Array]:
        """The multipliers after one step of gradient ascent; unchanged if `progress` is."""
        backend, xp = self.backend, self.backend.xp
        excess, _ = self._excess(expected, state, progress)
        excess = backend.stop_gradient(xp.reshape(excess, (1,)))
        rate = self.budget.rate
        step = xp.concat([rate[0] * excess, rate[1] * excess**2], axis=0)
        now = 0.0 * state["progress"] + progress
        advanced = now > state["progress"]
        moved = {
            "multipliers": xp.where(advanced, state["multipliers"] + step, state["multipliers"]),
            "progress": xp.where(advanced, now, state["progress"]),
        }
        # A float64 `progress` must not change the dtype of the state.
        return {n: backend.cast(v, backend.dtype(state[n])) for n, v in moved.items()}

    def _excess(
        self, expected: Array, state: State, progress: Any
    ) -> tuple[Array, tuple[Array, Array]]:
        """How far the expected size is above the target; and the two multipliers."""
        xp = self.backend.xp
        excess = expected / self.dense - target(self.budget, self.final, progress, xp)
        # Once every neuron is decided, the size is fixed: no penalty.
        undecided = sum(
            xp.sum(xp.where(m < 0.0, xp.ones_like(m), 0.0 * m)) for m in state["mask"].values()
        )
        excess = xp.where(undecided > 0.5, excess, 0.0 * excess)
        multipliers = self.backend.stop_gradient(state["multipliers"])
        return excess, (multipliers[0], multipliers[1])


def target(budget: Budget, final: float, progress: Any, xp: Any) -> Any:
    """The target at `progress` in [0, 1], as a fraction of the dense model.

    It falls linearly from 1 to `final` over the first `Budget.warmup` of training.
    """
    is_number = check_progress(progress)
    if budget.warmup == 0:
        return final
    ratio = progress / budget.warmup
    ratio = min(ratio, 1.0) if is_number else xp.clip(ratio, 0.0, 1.0)
    return 1.0 + (final - 1.0) * ratio
