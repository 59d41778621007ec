"""`Pruner`: the algorithm, as pure functions over parameters and gate state.

`Pruner` is written in three parts. `_pruner_model` has its options and what it knows of the model,
`_pruner_training` what a training step calls; here are selection, shrinking and the certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Parameters
from l0gate._certificate import Certificate, certify
from l0gate._checks import check_groups, check_kept, check_log_alpha
from l0gate._errors import check, warn
from l0gate._method import get_method
from l0gate._pruner_training import PrunerTraining
from l0gate._reconstruction import check_moments, mix, mixing_matrix
from l0gate._selection import best_neuron, choose, pad, warn_of_stall
from l0gate._state import State, to_device, to_host
from l0gate.layout.fold import group_norms, keep

_REOPENED = 0.5  # the gate of a neuron that the selection keeps although its gate was closed


class Pruner(PrunerTraining):
    """Gates, prices, selects and shrinks the neurons of any model that a `Layout` describes.

    Give a `Budget` (what the small model may cost) or a `strength`: the published objective, in
    which `strength` times the expected number of non-zero parameters is added to the loss (Wen et
    al., arXiv 1906.06847). `equal` lists groups of axes that must keep one count; the axes in
    `freeze` keep every neuron, ungated. The backend is found from the parameters.

    `method` chooses neurons in another way than by hard-concrete gates, see `l0gate.methods`; it
    needs a budget. Neurons are then open until they are closed for good, and log_alpha is not used.

    The functions are pure. `parameters` maps names to arrays; a gate state is a dict of arrays:

    - "log_alpha", axis -> (n,): the only part that is trained by gradient;
    - "mask", axis -> (n,): -1 while a gate is undecided, then its value for good (0 removes the
      neuron); `select` decides;
    - "multipliers" (2,), "progress" (1,): of the budget's controller;
    - "forced" (2,): how many neurons the selection opened and closed against their gates.

    >>> import numpy as np
    >>> from l0gate import Budget, Layout, Pruner
    >>> layout = Layout({"w": "h <- _", "u": "h <- h", "v": "_ <- h"})
    >>> parameters = {"w": np.ones((4, 3)), "u": np.ones((4, 4)), "v": np.ones((2, 4))}
    >>> pruner = Pruner(layout, Budget(parameters=0.5))
    >>> state = pruner.init(parameters, rng=0)
    >>> state = pruner.select(state, parameters)
    >>> small, kept = pruner.shrink(parameters, state)
    >>> small["u"].shape, kept["h"].shape, pruner.cost.total
    ((2, 2), (2,), 36)
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.method is None:  # in a pickle of 0.1.0, for hard-concrete gates
            self.method = get_method(None, self.hard_concrete)

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
        log_alpha = self._log_alpha(state)
        gates = to_host(self.backend, self.gates(state))
        if self._limit is None:
            kept = self.kept(state)
        elif not self.trains_gates:
            kept = self._cut(state, self._given(parameters), self._limit)
        else:
            kept = self._cut_by_gates(state, log_alpha, gates, parameters, reopen)
        forced = np.zeros(2)
        decided = {}
        for axis, gate in gates.items():
            value = np.zeros(len(gate))
            stays = gate[kept[axis]]
            value[kept[axis]] = np.where(stays > 0, stays, _REOPENED) if reopen else stays
            if self.trains_gates:  # other neurons have no gate of their own to be forced against
                forced += [np.sum((value > 0) & (gate == 0)), np.sum((value == 0) & (gate > 0))]
            decided[axis] = to_device(self.backend, value, state["log_alpha"][axis])
        more = to_device(self.backend, forced, state["forced"])
        return {**state, "mask": decided, "forced": state["forced"] + more}

    def _cut_by_gates(
        self,
        state: State,
        log_alpha: Mapping[str, np.ndarray],
        gates: Mapping[str, np.ndarray],
        parameters: Parameters | None,
        reopen: bool,
    ) -> dict[str, np.ndarray]:
        """The neurons that trained gates keep: by log_alpha, within the budget."""
        assert self._limit is not None
        mask = to_host(self.backend, state["mask"])
        undecided = np.concatenate([log_alpha[a][mask[a] < 0] for a in log_alpha])
        expected = float(self.backend.to_numpy(self.expected_size(state))) / self.cost.total
        warn_of_stall(self.hard_concrete, undecided, expected, self._limit / self.cost.total)
        if not reopen:
            _warn_of_closed(gates, log_alpha)
        # An axis that costs nothing in this measure was never asked to close.
        costs = {a for a, power in self.cost.powers.items() if power > 0} if reopen else set()
        may_stay = {a: (mask[a] != 0) & ((g > 0) | (a in costs)) for a, g in gates.items()}
        norms = None
        if parameters is not None:
            norms = group_norms(self.layout, parameters, self.backend)
        return choose(self.cost, self._limit, log_alpha, may_stay, norms, self.equal, self.freeze)

    def kept(self, state: State, equal: Sequence[Sequence[str]] = ()) -> dict[str, np.ndarray]:
        """Sorted indices per axis of the neurons whose test-time gate is open.

        An axis that would lose every neuron keeps its best one and warns. Axes grouped in `equal`
        keep one count, the largest: the others keep closed neurons beside their open ones, which
        costs some size and changes nothing.
        """
        log_alpha = self._log_alpha(state)
        gates = to_host(self.backend, self.gates(state))
        _warn_of_closed(gates, log_alpha)
        kept = {
            axis: np.flatnonzero(gate > 0)
            if (gate > 0).any()
            else np.array([best_neuron(log_alpha[axis])])
            for axis, gate in gates.items()
        }
        groups = check_groups("equal", equal, self.layout.axes, self.sizes)
        return pad(kept, [*self.equal, *groups], log_alpha)

    def size(self, state: State) -> Any:
        """The exact cost of the model that `shrink` would return without any further cut."""
        return self.cost.at({axis: len(index) for axis, index in self.kept(state).items()})

    def shrink(
        self, parameters: Parameters, state: State, *, equal: Sequence[Sequence[str]] = ()
    ) -> tuple[dict[str, Array], dict[str, np.ndarray]]:
        """The parameters of the small model, and the indices kept per axis.

        The test-time gates are folded, then the open neurons kept. A state that was not selected
        is cut to the budget first, by closing neurons only: see `settle`.
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

    def reconstruct(
        self,
        parameters: Parameters,
        kept: Mapping[str, np.ndarray],
        moments: Mapping[str, Any],
        *,
        ridge: float = 1e-6,
    ) -> dict[str, Array]:
        """The parameters whose readers of kept neurons take over what the dropped ones contributed.

        `moments` maps an axis to its second moments (n, n): the mean of h h^T over calibration
        data, h (n,) being what the readers of the axis see. Axes without moments are only cut. The
        readers' columns of dropped neurons become 0, so that shrinking the result to `kept` is
        exact: pass it to `shrink` and `certify` in place of `parameters`. See `_reconstruction`.
        """
        self.bind(parameters)
        gates = {axis: np.zeros(size, dtype=bool) for axis, size in self.sizes.items()}
        check_kept(kept, gates)
        check(0 <= ridge < float("inf"), f"`ridge` is {ridge!r}; it must be a finite number >= 0")
        given = check_moments(moments, self.sizes)
        mixing = {
            axis: mixing_matrix(values, np.asarray(kept[axis]), ridge)
            for axis, values in given.items()
        }
        return mix(self.layout, parameters, mixing, self.backend)

    def settle(self, state: State, parameters: Parameters | None = None) -> State:
        """The state that `shrink` and `certify` use: selected by closing alone, if it was not."""
        if self._limit is None or self.selected(state):
            return state
        settled = self.select(state, parameters, reopen=False)
        closed = float(self.backend.to_numpy(settled["forced"])[1])
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
        dimension runs over that axis. Both models run in float64, from the very numbers that were
        folded, and in float32. `apply_small(small, input, dtype)` takes the place of `apply` where
        the small model is more than a dict of parameters.
        """
        state = self.settle(state, parameters)
        gates = to_host(self.backend, self.gates(state))
        check_kept(kept, {axis: gate > 0 for axis, gate in gates.items()})
        if apply_small is None:
            found, counts = self.layout.solve(small), {a: len(kept[a]) for a in self.sizes}
            check(found == counts, f"`small` has axes of the sizes {found}; `kept` says {counts}")
        forced = self.backend.to_numpy(state["forced"])
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

    def _log_alpha(self, state: State) -> dict[str, np.ndarray]:
        """log_alpha on the host, in the layout's order; a value that is not finite raises."""
        log_alpha = state["log_alpha"]
        found = to_host(self.backend, {axis: log_alpha[axis] for axis in self.layout.axes})
        for axis, values in found.items():
            check_log_alpha(axis, values)
        return found


def _warn_of_closed(gates: Mapping[str, np.ndarray], log_alpha: Mapping[str, np.ndarray]) -> None:
    for axis, gate in gates.items():
        if not (gate > 0).any():
            warn(
                f"every gate of axis {axis!r} is closed; its best neuron,"
                f" {best_neuron(log_alpha[axis])}, is kept"
            )
