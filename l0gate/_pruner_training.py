"""The training part of `Pruner`: values of the gates, the expected cost, the penalty on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._arguments import names_wrong_arguments
from l0gate._backend import Array, Parameters, zeros
from l0gate._checks import check_progress, given_log_alpha
from l0gate._controller import Controller, FixedStrength, Lagrangian, target
from l0gate._errors import L0GateError
from l0gate._method import scores_of
from l0gate._pruner_model import PrunerModel
from l0gate._selection import choose
from l0gate._state import State, fresh_state, to_device, to_host, with_log_alpha
from l0gate.layout.fold import fold, gate_gradients

_CUTS = 100  # the most times that a gradual method removes neurons before `Budget.settle`
_LEAST_PART = 1e-9  # of training: `Budget.settle` may be 0, and is divided by


class PrunerTraining(PrunerModel):
    """The part of a `Pruner` that a training step calls."""

    # State ------------------------------------------------------------------------------------

    @names_wrong_arguments
    def init(
        self,
        parameters: Parameters,
        rng: Any = 0,
        *,
        log_alpha: Mapping[str, Any] | None = None,
    ) -> State:
        """A new gate state, with gates near `HardConcrete.initial`, or with the given log_alpha.

        `rng` is a seed or a generator of the backend, for noise that breaks ties. log_alpha is
        float64 if the parameters are, else float32.
        """
        self.bind(parameters)
        like = self.layout.slices(parameters)[0][3]
        gates = self.hard_concrete
        state = fresh_state(gates, self.sizes, self.freeze, rng, like, self.backend)
        if log_alpha is not None:
            given = given_log_alpha(log_alpha, self.sizes, self.freeze, self.backend)
            state = with_log_alpha(state, given, self.backend)
        return state

    @names_wrong_arguments
    def noise(self, state: State, rng: Any) -> tuple[dict[str, Array], Any]:
        """Uniform noise (n,) per axis for one training step, and the generator for the next one.

        Draw once per step, never per time step: the gates of one step are the same throughout
        its sequences.
        """
        noise = {}
        # Not the order of the state: JAX sorts the keys of dicts.
        for axis in self.layout.axes:
            log_alpha = state["log_alpha"][axis]
            noise[axis], rng = self.backend.uniform(rng, tuple(log_alpha.shape), log_alpha)
        return noise, rng

    # Gates ------------------------------------------------------------------------------------

    @names_wrong_arguments
    def gates(self, state: State, noise: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The gates (n,) of every axis: sampled if `noise` is given, else the test-time gates.

        A decided gate has its final value, whatever the noise and log_alpha.
        """
        values = {}
        for axis in self.layout.axes:
            log_alpha, mask = state["log_alpha"][axis], state["mask"][axis]
            u = None if noise is None else noise[axis]
            undecided = self.method.gate(log_alpha, u, self.backend)
            values[axis] = self.backend.xp.where(mask < 0.0, undecided, mask)
        return values

    @names_wrong_arguments
    def gate(
        self, parameters: Parameters, state: State, noise: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The parameters with the gates multiplied in. Run the original model with them."""
        return fold(self.layout, parameters, self.gates(state, noise), self.backend)

    @names_wrong_arguments
    def pullback(
        self,
        parameters: Parameters,
        state: State,
        noise: Mapping[str, Array] | None,
        gradients: Parameters,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Gradients of the loss in (parameters, log_alpha), given those in the gated parameters.

        This is the backward pass of `gate`, for frameworks without autodiff. `gradients` must hold
        every parameter of the layout.
        """
        gates = self.gates(state, noise)
        of_parameters = fold(self.layout, gradients, gates, self.backend)
        if not self.trains_gates:
            return of_parameters, _zeros(state["log_alpha"])
        of_gates = gate_gradients(self.layout, parameters, gates, gradients, self.backend)
        of_log_alpha = {}
        for axis, log_alpha in state["log_alpha"].items():
            u = None if noise is None else noise[axis]
            gradient = self.method.gate_gradient(log_alpha, u, self.backend)
            of_log_alpha[axis] = of_gates[axis] * self._if_undecided(state, axis, gradient)
        return of_parameters, of_log_alpha

    def _if_undecided(self, state: State, axis: str, values: Array) -> Array:
        """Replace the values (n,) of an axis by 0 where `select` has decided on the neuron."""
        return self.backend.xp.where(state["mask"][axis] < 0.0, values, 0.0 * values)

    # Cost -------------------------------------------------------------------------------------

    @names_wrong_arguments
    def open_probabilities(self, state: State) -> dict[str, Array]:
        """The probability (n,) per axis that a sampled gate is not 0; once decided, 0 or 1."""
        xp, found = self.backend.xp, {}
        for axis, log_alpha in state["log_alpha"].items():
            mask = state["mask"][axis]
            decided = xp.where(mask > 0.0, xp.ones_like(log_alpha), 0.0 * log_alpha)
            undecided = self.method.open_probability(log_alpha, self.backend)
            found[axis] = xp.where(mask < 0.0, undecided, decided)
        return found

    @names_wrong_arguments
    def expected_size(self, state: State) -> Array:
        """The expected cost, in the budget's measure (parameters without a budget): a scalar."""
        return self.cost.expected(self.open_probabilities(state), self.backend)

    @names_wrong_arguments
    def target(self, progress: Any) -> Any:
        """The expected size that the penalty aims at, as a fraction of the dense model's size."""
        check_progress(progress)
        if self.budget is None or self._limit is None:
            return 1.0
        return target(self.budget, self._limit / self.cost.total, progress, self.backend.xp)

    @property
    def _controller(self) -> Controller:
        """The controller that penalizes the expected size; only trained gates have one."""
        if self.strength is not None:
            return FixedStrength(self.strength)
        if self.budget is None or self._limit is None:
            raise L0GateError(
                "the pruner has neither `budget` nor `strength`, so nothing tells it what to close"
            )
        return Lagrangian(self.budget, self._limit, self.cost.total, self.backend)

    @names_wrong_arguments
    def penalty(self, state: State, progress: Any, parameters: Parameters | None = None) -> Array:
        """The scalar to add to the task loss, which should be of order 1, such as a mean.

        `progress` is the fraction of training done, a Python number in [0, 1] or an array.
        `parameters` are needed by methods that penalize the weights.
        """
        if self.trains_gates:
            return self._controller.penalty(self.expected_size(state), state, progress)
        nothing = 0.0 * state["progress"][0]  # a zero of the framework
        if self.selected(state):
            return nothing
        given = self._given(parameters)
        of_weights = self.method.penalty(self.layout, given, self.backend, self._prunable)
        return nothing if of_weights is None else of_weights

    @names_wrong_arguments
    def penalty_gradient(self, state: State, progress: Any) -> dict[str, Array]:
        """d penalty / d log_alpha, in closed form."""
        if not self.trains_gates:
            return _zeros(state["log_alpha"])
        scale = self._controller.penalty_gradient(self.expected_size(state), state, progress)
        of_p = self.cost.expected_gradient(self.open_probabilities(state), self.backend)
        found = {}
        for axis, log_alpha in state["log_alpha"].items():
            gradient = self.method.open_probability_gradient(log_alpha, self.backend)
            found[axis] = scale * of_p[axis] * self._if_undecided(state, axis, gradient)
        return found

    @names_wrong_arguments
    def parameter_gradient(self, state: State, parameters: Parameters) -> dict[str, Array]:
        """d penalty / d parameters, in closed form, by name; empty for hard-concrete gates."""
        if self.trains_gates or self.selected(state):
            return {}
        return self.method.penalty_gradient(self.layout, parameters, self.backend, self._prunable)

    def _given(self, parameters: Parameters | None) -> Parameters:
        if parameters is None:
            raise L0GateError(f"`parameters` is None; the method {self.method!r} needs them")
        return parameters

    @names_wrong_arguments
    def update(self, state: State, progress: Any, parameters: Parameters | None = None) -> State:
        """Clamp log_alpha and update the multipliers; call it after every optimizer step.

        The multipliers change only if `progress` has grown. So it may also be called for every
        batch when gradients are accumulated over several. A gradual `method` removes neurons here,
        and needs `parameters`.
        """
        if not self.trains_gates:
            return self._close_gradually(state, float(progress), parameters)
        log_alpha = {
            axis: self.method.clamp(values, self.backend)
            for axis, values in state["log_alpha"].items()
        }
        state = {**state, "log_alpha": log_alpha}
        if self.budget is None:
            return state
        return {**state, **self._controller.update(self.expected_size(state), state, progress)}

    def _close_gradually(
        self, state: State, progress: float, parameters: Parameters | None
    ) -> State:
        """`update` for methods without trained gates: remove neurons as `Method.share` says."""
        assert self.budget is not None
        assert self._limit is not None
        before = float(self.backend.to_numpy(state["progress"])[0])
        if progress <= before:
            return state
        now = zeros(self.backend, (1,), state["progress"], progress)
        state = {**state, "progress": now}
        settle = max(self.budget.settle, _LEAST_PART)
        cut, last = (math.floor(_CUTS * min(1.0, p / settle) + 1e-9) for p in (progress, before))
        share = self.method.share(cut / _CUTS)
        if cut == last or share <= 0.0 or self.selected(state):
            return state
        limit = self.cost.total - share * (self.cost.total - self._limit)
        kept = self._cut(state, self._given(parameters), limit)
        mask = {}
        for axis, values in to_host(self.backend, state["mask"]).items():
            closed = np.zeros_like(values)
            closed[kept[axis]] = values[kept[axis]]
            mask[axis] = to_device(self.backend, closed, state["mask"][axis])
        return {**state, "mask": mask}

    def _cut(
        self,
        state: State,
        parameters: Parameters,
        limit: float,
        moments: Mapping[Any, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """The open neurons that fit within `limit`, best scores of the method first.

        Returns their sorted indices for every axis.
        """
        given = self.layout, parameters, self.backend, self.sizes
        numbers = scores_of(self.method, *given, moments)
        mask = to_host(self.backend, state["mask"])
        open_now = {axis: values != 0 for axis, values in mask.items()}
        return choose(
            self.cost, limit, numbers, open_now, None, self.equal, self.freeze, self._allowed
        )

    def selected(self, state: State) -> bool:
        """Whether `select` has decided, for every neuron, if it is kept: no mask entry is -1."""
        return all(
            bool((mask >= 0).all()) for mask in to_host(self.backend, state["mask"]).values()
        )


def _zeros(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {axis: 0.0 * values for axis, values in arrays.items()}
