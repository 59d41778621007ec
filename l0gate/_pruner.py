"""`Pruner`: the algorithm, as pure functions over parameters and gate state.

The class is split over three modules. `_pruner_model` has its options and the cost of the model,
`_pruner_training` what a training step calls. Here are selection, shrinking and the certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._arguments import names_wrong_arguments
from l0gate._backend import Array, Parameters
from l0gate._certificate import Certificate, compare_models
from l0gate._checks import check_groups, check_kept, check_log_alpha
from l0gate._errors import check, warn
from l0gate._method import get_method
from l0gate._reconstruction import Reconstruction
from l0gate._selection import best_neuron, choose, pad, warn_about_gates
from l0gate._state import State, to_device, to_host
from l0gate.layout.fold import group_norms, keep

_REOPENED = 0.5  # the new gate of a neuron that `select` keeps although its gate was closed


class Pruner(Reconstruction):
    """Learns which neurons of a model to remove, and removes them. A `Layout` describes the model.

    Give a `Budget`, the most that the small model may cost. Or give a `strength`: then `strength`
    times the expected number of remaining parameters is added to the loss, as published (Wen et
    al., arXiv 1906.06847). Axes in one group of `equal` keep the same number of neurons. Axes in
    `freeze` are not pruned: their gates are 1. The backend is found from the parameters.

    `method` replaces hard-concrete gates by another way to choose neurons (see `l0gate.methods`).
    It needs a budget. Gates are then 1 until their neuron is removed, and log_alpha is not used.

    No call changes an array. `parameters` maps names to arrays. A gate state is a dict of arrays:

    - "log_alpha", axis -> (n,): one number per neuron, trained by gradient;
    - "mask", axis -> (n,): -1 while a gate is undecided; once `select` has decided, the final value
      of the gate (0: the neuron is removed);
    - "multipliers" (2,): the Lagrange multipliers; "progress" (1,): progress at the last `update`;
    - "forced" (2,): how many neurons `select` kept with closed gates, and removed with open ones.

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
        vars(self).setdefault("_allowed", None)  # pickles of 0.1.0 lack it
        if self.method is None:  # they hold None for hard-concrete gates
            self.method = get_method(None, self.hard_concrete)

    @names_wrong_arguments
    def select(
        self,
        state: State,
        parameters: Parameters | None = None,
        *,
        reopen: bool = True,
        moments: Mapping[Any, Any] | None = None,
    ) -> State:
        """Choose the neurons to keep, for good: the state with the final gate of every neuron.

        With a budget, neurons are ranked by log_alpha (ties by weight norm, if `parameters` are
        given), or by the scores of `method`. As many as fit are kept, at least one per axis.
        `reopen=True` may keep neurons whose gate was closed; these need further training.
        `reopen=False` keeps only open ones. `moments`, as in `reconstruct`, are for methods that
        choose on calibration data. Without a budget, all open neurons are kept. Warns if
        the expected size is far above the budget.
        """
        log_alpha = self._log_alpha(state)
        gates = to_host(self.backend, self.gates(state))
        if self._limit is None:
            kept = self.kept(state)
        elif not self.trains_gates:
            kept = self._cut(state, self._given(parameters), self._limit, moments)
        else:
            check(isinstance(reopen, bool), f"`reopen` is {reopen!r}; it must be True or False")
            kept = self._cut_by_gates(state, log_alpha, gates, parameters, reopen)
        forced = np.zeros(2)
        decided = {}
        for axis, gate in gates.items():
            value = np.zeros(len(gate))
            stays = gate[kept[axis]]
            value[kept[axis]] = np.where(stays > 0, stays, _REOPENED) if reopen else stays
            if self.trains_gates:  # without, no gate asked for anything else
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
        """Indices per axis of the neurons to keep within the budget, ranked by log_alpha."""
        assert self._limit is not None
        mask = to_host(self.backend, state["mask"])
        undecided = np.concatenate([log_alpha[a][mask[a] < 0] for a in log_alpha])
        expected = float(self.backend.to_numpy(self.expected_size(state))) / self.cost.total
        warn_about_gates(self.hard_concrete, undecided, expected, self._limit / self.cost.total)
        if not reopen:
            _warn_of_closed(gates, log_alpha)
        # Reopen gates only on axes that have a cost: on others, no penalty closed them.
        powers = self.cost.powers
        reopened = {axis for axis in gates if reopen and powers[axis] > 0}
        may_stay = {a: (mask[a] != 0) & ((g > 0) | (a in reopened)) for a, g in gates.items()}
        norms = None
        if parameters is not None:
            norms = group_norms(self.layout, parameters, self.backend)
        return choose(
            *(self.cost, self._limit, log_alpha, may_stay, norms),
            *(self.equal, self.freeze, self._allowed),
        )

    @names_wrong_arguments
    def kept(self, state: State, equal: Sequence[Sequence[str]] = ()) -> dict[str, np.ndarray]:
        """Sorted indices per axis of the neurons whose test-time gate is above 0.

        If all gates of an axis are closed, its best neuron is kept, with a warning. Axes in one
        group of `equal` all keep as many neurons as the largest of them. The added neurons have
        closed gates, so they enlarge the model but do not change its outputs.
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
        return pad(kept, [*self.equal, *groups], log_alpha, allowed=self._allowed)

    @names_wrong_arguments
    def size(self, state: State) -> Any:
        """The exact cost of keeping the neurons whose gates are open, in the budget's measure."""
        return self._cost_of(self.kept(state))

    def _cost_of(self, kept: Mapping[str, np.ndarray]) -> Any:
        return self.cost.at({axis: len(index) for axis, index in kept.items()})

    @names_wrong_arguments
    def shrink(
        self, parameters: Parameters, state: State, *, equal: Sequence[Sequence[str]] = ()
    ) -> tuple[dict[str, Array], dict[str, np.ndarray]]:
        """The parameters of the small model, and the indices of the kept neurons per axis.

        Test-time gates are multiplied into the parameters, then neurons with closed gates removed.
        If `select` was not called, open neurons may be closed first, to meet the budget.
        """
        state = self.settle(state, parameters)
        kept = self.kept(state, equal)
        used = self._cost_of(kept)
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

    @names_wrong_arguments
    def settle(self, state: State, parameters: Parameters | None = None) -> State:
        """Choose the neurons to keep, if that is still to be done, without reopening closed gates.

        If every neuron is decided, or if there is no budget, the state is returned as it is.
        Otherwise the result is that of `select` with `reopen=False`.
        """
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

    @names_wrong_arguments
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
        """Compare the gated and the small model on `inputs`; raise if they differ too much.

        `apply(parameters, input)` returns outputs, or (outputs, states). Outputs are an array or a
        list of arrays. States map an axis to an array, or a list of arrays, whose last dimension
        runs over that axis. Both models run in float64 and in float32. `small` and `kept` are what
        `shrink` returned. If `small` is not a dict of parameters, give
        `apply_small(small, input, dtype)`, which runs it.
        """
        state = self.settle(state, parameters)
        gates = to_host(self.backend, self.gates(state))
        check_kept(kept, {axis: gate > 0 for axis, gate in gates.items()})
        if apply_small is None:
            found, counts = self.layout.solve(small), {a: len(kept[a]) for a in self.sizes}
            check(found == counts, f"`small` has axes of the sizes {found}; `kept` says {counts}")
        forced = self.backend.to_numpy(state["forced"])
        return compare_models(
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
        """log_alpha (n,) per axis as NumPy arrays, in the layout's order. Raises if not finite."""
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
