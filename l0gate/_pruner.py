"""`Pruner`: the algorithm, as pure functions over parameters and gate state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters, zeros
from l0gate._budget import Budget
from l0gate._certificate import Certificate, certify, check_kept
from l0gate._errors import L0GateError, check, warn
from l0gate._hard_concrete import JITTER, HardConcrete, check_log_alpha
from l0gate._registry import get_backend, get_method
from l0gate._selection import best_neuron, check_groups, choose, pad, warn_of_stall
from l0gate.layout.cost import Cost
from l0gate.layout.fold import fold, gate_gradients, group_norms, keep
from l0gate.layout.layout import Layout

if TYPE_CHECKING:
    from l0gate.methods import Method

State = dict[str, Any]
_UNBOUND = (
    "the pruner has met no parameters yet; call `init(parameters)`, or, to go on with a state that"
    " was saved, `bind(parameters)`"
)
_CUTS = 100  # how often, at most, a method closes neurons on the way to its budget
_LEAST_PART = 1e-9  # of training
_REOPENED = 0.5  # the gate of a neuron that the selection keeps although its gate was closed


class Pruner:
    """Gates, prices, selects and shrinks the neurons of any model that a `Layout` describes.

    Give a `Budget` (what the small model may cost) or a `strength`: the published objective, in
    which `strength` times the expected number of non-zero parameters is added to the loss (Wen et
    al., arXiv 1906.06847). `equal` lists groups of axes that must keep one count; the axes in
    `freeze` keep every neuron, ungated. The backend is found from the parameters.

    `method` chooses neurons in another way than by gates, see `l0gate.methods`; it needs a budget.
    Neurons are then open until they are closed for good, and log_alpha is not used.

    The functions are pure. `parameters` maps names to arrays; a gate state is a dict of arrays:

    - "log_alpha", axis -> (n,): the only part that is trained by gradient;
    - "mask", axis -> (n,): -1 while a gate is undecided, then its value for good (0 removes the
      neuron); `select` decides;
    - "multipliers" (2,), "progress" (1,): of the budget's controller;
    - "forced" (2,): how many neurons the selection opened and closed against their gates.

    >>> import numpy as np
    >>> layout = Layout({"w": "h <- _", "u": "h <- h", "v": "_ <- h"})
    >>> parameters = {"w": np.ones((4, 3)), "u": np.ones((4, 4)), "v": np.ones((2, 4))}
    >>> pruner = Pruner(layout, Budget(parameters=0.5))
    >>> state = pruner.init(parameters, rng=0)
    >>> state = pruner.select(state, parameters)
    >>> small, kept = pruner.shrink(parameters, state)
    >>> small["u"].shape, kept["h"].shape, pruner.cost.total
    ((2, 2), (2,), 36)
    """

    def __init__(
        self,
        layout: Layout,
        budget: Budget | None = None,
        strength: float | None = None,
        gates: HardConcrete | None = None,
        backend: str | Backend | None = None,
        *,
        method: str | Method | None = None,
        equal: Sequence[Sequence[str]] = (),
        freeze: Sequence[str] = (),
    ) -> None:
        check(isinstance(layout, Layout), f"`layout` is {layout!r}; it must be a Layout")
        check(
            budget is None or isinstance(budget, Budget),
            f"`budget` is {budget!r}; it must be a Budget, such as Budget(parameters=0.1)",
        )
        check(budget is None or strength is None, "give `budget` or `strength`, not both")
        check(
            strength is None
            or (isinstance(strength, (int, float)) and 0 <= strength < float("inf")),
            f"`strength` is {strength!r}; it must be a number of at least 0",
        )
        check(
            gates is None or isinstance(gates, HardConcrete),
            f"`gates` is {gates!r}; it must be a HardConcrete",
        )
        self.method = get_method(method)
        check(
            self.method is None or budget is not None,
            f"`method` is {method!r}, which needs a `budget`, the size to cut to",
        )
        check(
            self.method is None or gates is None,
            f"give `gates` or `method`, not both; `method` is {method!r}",
        )
        self.layout = layout
        self.budget = budget
        self.strength = strength
        self.hard_concrete = gates if gates is not None else HardConcrete()
        (self.freeze,) = check_groups("freeze", [freeze], layout.axes)
        self.equal = check_groups("equal", equal, layout.axes, frozen=self.freeze)
        self._backend = None if backend is None else get_backend(backend)
        self._cost: Cost | None = None
        self._limit: int | None = None

    # What the pruner knows of the model -------------------------------------------------------

    def bind(self, parameters: Parameters) -> None:
        """Check the layout against the model and price it; `init` does so by itself.

        Call it where a state comes from a file: a new pruner knows no model yet. A pruner serves
        one model: parameters of other sizes raise.
        """
        rows = self.layout.slices(parameters)
        if self._backend is None:
            self._backend = get_backend(rows[0][3])
        for name, pattern, _, value in rows:
            dtype = self.backend.dtype(value)
            check(
                "float" in dtype or not any(d.reads and d.axes for d in pattern.dimensions),
                f"parameter {name!r} has dtype {dtype}; one that reads gated neurons must be of"
                " floating point",
            )
        budget = self.budget
        cost = Cost(
            self.layout,
            parameters,
            "parameters" if budget is None else budget.measure,
            "layout" if budget is None else budget.of,
            self._backend,
        )
        if self._cost is not None:
            check(
                cost.sizes == self._cost.sizes and cost.terms == self._cost.terms,
                f"the parameters belong to another model: their axes have the sizes {cost.sizes},"
                f" this pruner was bound to {self._cost.sizes}",
            )
        check_groups("equal", self.equal, self.layout.axes, cost.sizes)
        self._limit = None if budget is None else budget.limit(cost, self.freeze)
        self._cost = cost

    @property
    def backend(self) -> Backend:
        """The backend that drives the arrays."""
        check(self._backend is not None, _UNBOUND)
        return self._backend  # type: ignore[return-value]

    @property
    def cost(self) -> Cost:
        """What is limited or penalised, as a function of the numbers of open neurons."""
        check(self._cost is not None, _UNBOUND)
        return self._cost  # type: ignore[return-value]

    @property
    def trains_gates(self) -> bool:
        """Whether gates are trained by gradient (hard-concrete gates), not closed by scores."""
        return self.method is None

    @property
    def limit(self) -> int | None:
        """What the budget allows, in its measure; None without a budget."""
        return self._limit

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis in the dense model."""
        return self.cost.sizes

    # State ------------------------------------------------------------------------------------

    def init(
        self,
        parameters: Parameters,
        rng: Any = 0,
        *,
        log_alpha: Mapping[str, Any] | None = None,
    ) -> State:
        """A fresh state: gates at `HardConcrete.initial`, or at the given log_alpha.

        `rng` is a seed or a generator of the backend. log_alpha is float64 where the parameters
        are, else float32.
        """
        self.bind(parameters)
        backend, hc = self.backend, self.hard_concrete
        like = self.layout.slices(parameters)[0][3]
        like = backend.cast(like, "float64" if backend.dtype(like) == "float64" else "float32")
        if isinstance(rng, (int, np.integer)):
            rng = backend.rng(int(rng))
        start = hc.initial_log_alpha(hc.initial)
        values: dict[str, Array] = {}
        mask: dict[str, Array] = {}
        for axis, size in self.sizes.items():
            u, rng = backend.uniform(rng, (size,), like)
            values[axis] = hc.clamp(start + JITTER * u, backend)
            mask[axis] = zeros(backend, (size,), like, 1.0 if axis in self.freeze else -1.0)
        if log_alpha is not None:
            values |= self._given(log_alpha, like)
        return {
            "log_alpha": values,
            "mask": mask,
            "multipliers": zeros(backend, (2,), like),
            "progress": zeros(backend, (1,), like),
            "forced": zeros(backend, (2,), like),
        }

    def _given(self, log_alpha: Mapping[str, Any], like: Array) -> dict[str, Array]:
        check(
            isinstance(log_alpha, Mapping),
            f"`log_alpha` is {log_alpha!r}; it must map axes to arrays",
        )
        free = [axis for axis in self.sizes if axis not in self.freeze]
        values = {}
        for axis, given in log_alpha.items():
            check(
                axis in free,
                f"`log_alpha` names the axis {axis!r}; gates are on {', '.join(free)}",
            )
            owned = self.backend.owns(given)
            try:
                array = np.array(self.backend.to_numpy(given) if owned else given, dtype=float)
            except (TypeError, ValueError):
                raise L0GateError(
                    f"`log_alpha[{axis!r}]` is {given!r}; it must be an array of numbers"
                ) from None
            check(
                array.shape == (self.sizes[axis],),
                f"`log_alpha[{axis!r}]` has shape {array.shape}; the axis has"
                f" {self.sizes[axis]} neurons",
            )
            check_log_alpha(axis, array)
            values[axis] = self._device(array, like)
        return values

    def noise(self, state: State, rng: Any) -> tuple[dict[str, Array], Any]:
        """Uniform noise for one training step, and the generator for the next one.

        Draw once per step, never per time step: the gates of one step are the same throughout
        its sequences.
        """
        noise = {}
        # The layout's order: a state may come back with its axes sorted (JAX's trees).
        for axis in self.layout.axes:
            log_alpha = state["log_alpha"][axis]
            noise[axis], rng = self.backend.uniform(rng, tuple(log_alpha.shape), log_alpha)
        return noise, rng

    # Gates ------------------------------------------------------------------------------------

    def gates(self, state: State, noise: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The value of every gate: sampled with noise, at test time without.

        A decided gate has its final value, whatever the noise and log_alpha.
        """
        hc, values = self.hard_concrete, {}
        for axis in self.layout.axes:
            log_alpha, mask = state["log_alpha"][axis], state["mask"][axis]
            if self.method is not None:
                free = self.backend.xp.ones_like(log_alpha)
            elif noise is None:
                free = hc.test_gate(log_alpha, self.backend)
            else:
                free = hc.sample(log_alpha, noise[axis], self.backend)
            values[axis] = self.backend.xp.where(mask < 0.0, free, mask)
        return values

    def gate(
        self, parameters: Parameters, state: State, noise: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The parameters of the gated model: run the untouched model with them."""
        return fold(self.layout, parameters, self.gates(state, noise), self.backend)

    def pullback(
        self,
        parameters: Parameters,
        state: State,
        noise: Mapping[str, Array] | None,
        gradients: Parameters,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Gradients in (parameters, log_alpha) from gradients in the gated parameters.

        The transpose of the derivative of `gate`, for frameworks without autodiff. `gradients`
        must hold every parameter of the layout.
        """
        backend, hc = self.backend, self.hard_concrete
        gates = self.gates(state, noise)
        if self.method is not None:  # no gate is trained
            none = {axis: 0.0 * values for axis, values in state["log_alpha"].items()}
            return fold(self.layout, gradients, gates, backend), none
        of_gates = gate_gradients(self.layout, parameters, gates, gradients, backend)
        of_log_alpha = {}
        for axis, log_alpha in state["log_alpha"].items():
            slope = (
                hc.test_gate_slope(log_alpha, backend)
                if noise is None
                else hc.sample_slope(log_alpha, noise[axis], backend)
            )
            slope = backend.xp.where(state["mask"][axis] < 0.0, slope, 0.0 * slope)
            of_log_alpha[axis] = of_gates[axis] * slope
        return fold(self.layout, gradients, gates, backend), of_log_alpha

    # Price ------------------------------------------------------------------------------------

    def open_probabilities(self, state: State) -> dict[str, Array]:
        """The probability that each gate is not 0; 0 or 1 where the selection decided."""
        xp = self.backend.xp
        return {
            axis: xp.where(
                state["mask"][axis] < 0.0,
                self.hard_concrete.open_probability(log_alpha, self.backend)
                if self.method is None
                else xp.ones_like(log_alpha),
                xp.where(state["mask"][axis] > 0.0, xp.ones_like(log_alpha), 0.0 * log_alpha),
            )
            for axis, log_alpha in state["log_alpha"].items()
        }

    def expected_size(self, state: State) -> Array:
        """The expected cost, in the budget's measure (parameters without a budget): a scalar."""
        return self.cost.expected(self.open_probabilities(state), self.backend)

    def size(self, state: State) -> Any:
        """The exact cost of the model that `shrink` would return without any further cut."""
        return self.cost.at({axis: len(index) for axis, index in self.kept(state).items()})

    def target(self, progress: Any) -> Any:
        """The budget's target at `progress` (a fraction of training), as a fraction of dense."""
        _check_progress(progress)
        if self.budget is None or self._limit is None:
            return 1.0
        final = self._limit / self.cost.total
        if self.budget.warmup == 0:
            return final
        ratio = progress / self.budget.warmup
        ratio = min(ratio, 1.0) if _is_number(ratio) else self.backend.xp.clip(ratio, 0.0, 1.0)
        return 1.0 + (final - 1.0) * ratio

    def penalty(self, state: State, progress: Any, parameters: Parameters | None = None) -> Array:
        """What to add to the task loss (a mean in nats or alike, of order 1): a scalar.

        `progress` is the fraction of training done, a Python number in [0, 1] or an array.
        `parameters` are needed by a `method` alone.
        """
        if self.method is not None:
            none = 0.0 * state["progress"][0]
            if self.selected(state):
                return none
            given = self._for_method(parameters)
            added = self.method.penalty(self.layout, given, self.backend, self._free)
            return none if added is None else added
        if self.strength is not None:
            return self.strength * self.expected_size(state)
        excess, (first, second) = self._excess(state, progress)
        return first * excess + second * excess**2

    def penalty_gradient(self, state: State, progress: Any) -> dict[str, Array]:
        """d penalty / d log_alpha, in closed form."""
        backend = self.backend
        if self.method is not None:
            return {axis: 0.0 * values for axis, values in state["log_alpha"].items()}
        if self.strength is not None:
            scale: Any = self.strength
        else:
            excess, (first, second) = self._excess(state, progress)
            scale = (first + 2.0 * second * excess) / float(self.cost.total)
        slopes = self.cost.expected_slope(self.open_probabilities(state), backend)
        gradient = {}
        for axis, log_alpha in state["log_alpha"].items():
            slope = self.hard_concrete.open_probability_slope(log_alpha, backend)
            slope = backend.xp.where(state["mask"][axis] < 0.0, slope, 0.0 * slope)
            gradient[axis] = scale * slopes[axis] * slope
        return gradient

    def parameter_gradient(self, state: State, parameters: Parameters) -> dict[str, Array]:
        """d penalty / d parameters, in closed form: what a `method` adds, by name."""
        if self.method is None or self.selected(state):
            return {}
        return self.method.penalty_gradient(self.layout, parameters, self.backend, self._free)

    @property
    def _free(self) -> list[str]:
        """The axes that may lose neurons."""
        return [axis for axis in self.layout.axes if axis not in self.freeze]

    def _for_method(self, parameters: Parameters | None) -> Parameters:
        if parameters is None:
            raise L0GateError(f"`parameters` is None; the method {self.method!r} needs them")
        return parameters

    def _excess(self, state: State, progress: Any) -> tuple[Array, tuple[Array, Array]]:
        check(
            self.budget is not None,
            "the pruner has neither `budget` nor `strength`, so nothing tells it what to close",
        )
        excess = self.expected_size(state) / float(self.cost.total) - self.target(progress)
        # Once every neuron is decided there is nothing to steer.
        xp = self.backend.xp
        free = sum(
            xp.sum(xp.where(m < 0.0, xp.ones_like(m), 0.0 * m)) for m in state["mask"].values()
        )
        excess = xp.where(free > 0.5, excess, 0.0 * excess)
        multipliers = self.backend.stop_gradient(state["multipliers"])
        return excess, (multipliers[0], multipliers[1])

    def update(self, state: State, progress: Any, parameters: Parameters | None = None) -> State:
        """The state after an optimizer step: log_alpha clamped, multipliers moved.

        The multipliers move only when `progress` has advanced, so calling it for every batch of
        an accumulated step is harmless. A `method` closes neurons here if it does so gradually,
        for which it needs `parameters`.
        """
        if self.method is not None:
            return self._close_gradually(state, float(progress), parameters)
        backend, xp = self.backend, self.backend.xp
        log_alpha = {
            axis: self.hard_concrete.clamp(values, backend)
            for axis, values in state["log_alpha"].items()
        }
        state = {**state, "log_alpha": log_alpha}
        if self.budget is None:
            return state
        excess, _ = self._excess(state, progress)
        excess = backend.stop_gradient(xp.reshape(excess, (1,)))
        rate = self.budget.rate
        step = xp.concat([rate[0] * excess, rate[1] * excess**2], axis=0)
        now = 0.0 * state["progress"] + progress
        advanced = now > state["progress"]
        moved = {
            "multipliers": xp.where(advanced, state["multipliers"] + step, state["multipliers"]),
            "progress": xp.where(advanced, now, state["progress"]),
        }
        # A `progress` in double precision must not change the dtype of the state.
        return {**state, **{n: backend.cast(v, backend.dtype(state[n])) for n, v in moved.items()}}

    def _close_gradually(
        self, state: State, progress: float, parameters: Parameters | None
    ) -> State:
        assert self.method is not None
        assert self.budget is not None
        assert self._limit is not None
        before = float(self._host({"": state["progress"]})[""][0])
        if progress <= before:
            return state
        now = zeros(self.backend, (1,), state["progress"], progress)
        state = {**state, "progress": now}
        settle = max(self.budget.settle, _LEAST_PART)
        part, was = (math.floor(_CUTS * min(1.0, p / settle) + 1e-9) for p in (progress, before))
        share = self.method.share(part / _CUTS)
        if part == was or share <= 0.0 or self.selected(state):
            return state
        limit = self.cost.total - share * (self.cost.total - self._limit)
        kept = self._cut(state, self._for_method(parameters), limit)
        mask = {}
        for axis, values in self._host(state["mask"]).items():
            closed = np.ones(len(values), dtype=bool)
            closed[kept[axis]] = False
            new = np.where(closed, 0.0, values)
            mask[axis] = self._device(new, state["mask"][axis])
        return {**state, "mask": mask}

    def _cut(self, state: State, parameters: Parameters, limit: float) -> dict[str, np.ndarray]:
        """The neurons that a method keeps, of those that are still open."""
        assert self.method is not None
        scores = self.method.scores(self.layout, parameters, self.backend)
        for axis, size in self.sizes.items():
            given = np.asarray(scores[axis], dtype=float) if axis in scores else None
            check(
                given is not None and given.shape == (size,) and bool(np.isfinite(given).all()),
                f"`method` {self.method!r} scored axis {axis!r} with {given!r}; it must give"
                f" {size} finite numbers",
            )
        numbers = {axis: np.asarray(scores[axis], dtype=float) for axis in self.sizes}
        open_now = {a: mask != 0 for a, mask in self._host(state["mask"]).items()}
        return choose(self.cost, limit, numbers, open_now, None, self.equal, self.freeze)

    # Selection and shrinking ------------------------------------------------------------------

    def select(
        self, state: State, parameters: Parameters | None = None, *, reopen: bool = True
    ) -> State:
        """The state with every neuron decided, within the budget, for the rest of training.

        With a budget the cut is exact: neurons by log_alpha (ties by group norm, where parameters
        are given), as many as fit, at least one per axis. `reopen=True` may keep a neuron whose
        gate was closed, which then needs further training to carry something;
        `reopen=False` only ever closes, so that nothing changes but the neurons cut. Without a
        budget, what is open stays. Warns when the gates are far from the budget.
        """
        log_alpha = self._checked(state)
        mask = self._host(state["mask"])
        gates = self._host(self.gates(state))
        if self._limit is None:
            kept = self.kept(state)
        elif self.method is not None:
            kept = self._cut(state, self._for_method(parameters), self._limit)
        else:
            undecided = np.concatenate([log_alpha[a][mask[a] < 0] for a in log_alpha])
            share = float(self._host({"": self.expected_size(state)})[""]) / self.cost.total
            warn_of_stall(self.hard_concrete, undecided, share, self._limit / self.cost.total)
            if not reopen:
                self._warn_of_closed(gates, log_alpha)
            # An axis that costs nothing in this measure was never asked to close.
            free = {a for a, power in self.cost.powers.items() if power > 0} if reopen else set()
            may_stay = {a: (mask[a] != 0) & ((g > 0) | (a in free)) for a, g in gates.items()}
            norms = None
            if parameters is not None:
                norms = group_norms(self.layout, parameters, self.backend)
            kept = choose(
                self.cost, self._limit, log_alpha, may_stay, norms, self.equal, self.freeze
            )
        opened = closed = 0
        decided = {}  # of a method's neurons none is forced: they have no gates of their own
        for axis, gate in gates.items():
            value = np.zeros(len(gate))
            stays = gate[kept[axis]]
            value[kept[axis]] = np.where(stays > 0, stays, _REOPENED) if reopen else stays
            if self.method is None:
                opened += int(np.sum((value > 0) & (gate == 0)))
                closed += int(np.sum((value == 0) & (gate > 0)))
            decided[axis] = self._device(value, state["log_alpha"][axis])
        forced = self._device(np.array([opened, closed], dtype=float), state["forced"])
        return {**state, "mask": decided, "forced": state["forced"] + forced}

    def selected(self, state: State) -> bool:
        """Whether every neuron is decided."""
        return all(bool((mask >= 0).all()) for mask in self._host(state["mask"]).values())

    def kept(self, state: State, equal: Sequence[Sequence[str]] = ()) -> dict[str, np.ndarray]:
        """Sorted indices per axis of the neurons whose test-time gate is open.

        An axis that would lose every neuron keeps its best one and warns. Axes grouped in `equal`
        keep one count, the largest: the others keep closed neurons beside their open ones, which
        costs some size and changes nothing.
        """
        log_alpha = self._checked(state)
        gates = self._host(self.gates(state))
        self._warn_of_closed(gates, log_alpha)
        kept = {
            axis: np.flatnonzero(gate > 0)
            if (gate > 0).any()
            else np.array([best_neuron(log_alpha[axis])])
            for axis, gate in gates.items()
        }
        groups = check_groups("equal", equal, self.layout.axes, self.sizes)
        return pad(kept, [*self.equal, *groups], log_alpha)

    def shrink(
        self, parameters: Parameters, state: State, *, equal: Sequence[Sequence[str]] = ()
    ) -> tuple[dict[str, Array], dict[str, np.ndarray]]:
        """The parameters of the small model, and the indices kept per axis.

        The test-time gates are folded, then the open neurons kept. A state that was not selected
        is cut to the budget first, closing neurons only (`settle` it: see `select`).
        """
        state = self.settle(state, parameters)
        kept = self.kept(state, equal)
        used = self.cost.at({axis: len(index) for axis, index in kept.items()})
        if self._limit is not None and used > self._limit:
            warn(
                f"the small model costs {used}, above the budget of {self._limit}"
                + (
                    ", because `equal` pads to one count per group; give `equal` to the pruner, so"
                    " that the selection itself keeps one"
                    if equal
                    else ": its gates were not decided by `select`"
                )
            )
        return keep(self.layout, self.gate(parameters, state), kept, self.backend), kept

    def settle(self, state: State, parameters: Parameters | None = None) -> State:
        """The state that `shrink` and `certify` use: selected by closing alone, if it was not."""
        if self._limit is None or self.selected(state):
            return state
        settled = self.select(state, parameters, reopen=False)
        closed = float(self._host({"": settled["forced"]})[""][1])
        if closed:
            warn(
                f"{closed:.0f} open neurons were cut to meet the budget, without training after"
                " the cut; let progress reach `Budget.settle`, or call `select`, before the end"
            )
        return settled

    def certify(
        self,
        apply: Callable[..., Any],
        parameters: Parameters,
        state: State,
        small: Any,
        kept: Mapping[str, np.ndarray],
        inputs: Iterable[Any],
        *,
        apply_small: Callable[..., Any] | None = None,
    ) -> Certificate:
        """Compare the gated and the small model on `inputs`; raise beyond the tolerance.

        `apply(parameters, input)` returns outputs, or (outputs, states): outputs are an array or
        a list of arrays, states map an axis name to an array, or a list of arrays, whose last
        dimension runs over that axis. Both models
        run in float64, from the very numbers that were folded, and in float32.
        `apply_small(small, input, dtype)` takes the place of `apply` where the small model is
        more than a dict of parameters.
        """
        state = self.settle(state, parameters)
        open_now = {a: gate > 0 for a, gate in self._host(self.gates(state)).items()}
        check_kept(kept, open_now)
        if apply_small is None:
            found, counts = self.layout.solve(small), {a: len(kept[a]) for a in self.sizes}
            check(found == counts, f"`small` has axes of the sizes {found}; `kept` says {counts}")
        forced = self._host({"": state["forced"]})[""]
        return certify(
            self.backend,
            apply,
            self.gate(parameters, state),
            small,
            kept,
            self.sizes,
            inputs,
            apply_small=apply_small,
            forced=(int(forced[0]), int(forced[1])),
        )

    def _checked(self, state: State) -> dict[str, np.ndarray]:
        """log_alpha on the host; a value that is not finite raises."""
        log_alpha = self._host({axis: state["log_alpha"][axis] for axis in self.layout.axes})
        for axis, values in log_alpha.items():
            check_log_alpha(axis, values)
        return log_alpha

    def _warn_of_closed(
        self, gates: Mapping[str, np.ndarray], log_alpha: Mapping[str, np.ndarray]
    ) -> None:
        for axis, gate in gates.items():
            if not (gate > 0).any():
                warn(
                    f"every gate of axis {axis!r} is closed; its best neuron,"
                    f" {best_neuron(log_alpha[axis])}, is kept"
                )

    def _device(self, values: np.ndarray, like: Array) -> Array:
        return self.backend.cast(self.backend.asarray(values, like), self.backend.dtype(like))

    def _host(self, arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
        return {name: self.backend.to_numpy(value) for name, value in arrays.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating))


def _check_progress(progress: object) -> None:
    if _is_number(progress):
        check(
            0 <= progress <= 1,  # type: ignore[operator]
            f"`progress` is {progress!r}; it must be in [0, 1], the fraction of training done",
        )
