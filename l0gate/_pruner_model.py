"""The options of a `Pruner`, and the sizes and cost of the model that it prunes."""

from __future__ import annotations

from collections.abc import Sequence

from l0gate._arguments import names_wrong_arguments
from l0gate._backend import Backend, Parameters
from l0gate._budget import Budget
from l0gate._checks import check_dtypes, check_groups, check_method_options, check_options
from l0gate._errors import L0GateError, check
from l0gate._hard_concrete import HardConcrete
from l0gate._method import Method, get_method, scores_of
from l0gate._registry import get_backend
from l0gate.layout.cost import Cost
from l0gate.layout.layout import Layout

_UNBOUND = (
    "the pruner has met no parameters yet; call `init(parameters)`, or, to go on with a state that"
    " was saved, `bind(parameters)`"
)


class PrunerModel:
    """Checks and holds the options of a `Pruner` and, after `bind`, the cost of its model."""

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
        check_options(layout, budget, strength, gates)
        self.method = get_method(method, gates)
        if not self.trains_gates:
            check_method_options(method, budget, gates)
        self.layout = layout
        self.budget = budget
        self.strength = strength
        self.hard_concrete = gates if gates is not None else HardConcrete()
        (self.freeze,) = check_groups("freeze", [freeze], layout.axes)
        self.equal = check_groups("equal", equal, layout.axes, frozen=self.freeze)
        self._backend = None if backend is None else get_backend(backend)
        self._cost: Cost | None = None
        self._limit: int | None = None
        self._allowed: dict[str, tuple[int, ...]] | None = None

    @names_wrong_arguments
    def bind(self, parameters: Parameters) -> None:
        """Check that the layout fits the parameters, and compute the cost of the model.

        `init` calls it. Call it yourself if the gate state comes from a file instead of `init`. A
        pruner is for one model: later calls with parameters of other sizes raise.
        """
        slices = self.layout.slices(parameters)
        if self._backend is None:
            self._backend = get_backend(slices[0][3])
        check_dtypes(slices, self._backend)
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
        self._allowed = None if budget is None else budget.allowed(cost.sizes)
        self._cost = cost
        if not self.trains_gates and not self.method.needs_moments:
            # A method that cannot score this model is to fail now, not at the cut.
            scores_of(self.method, self.layout, parameters, self._backend, cost.sizes)

    @property
    def backend(self) -> Backend:
        """The backend that drives the arrays."""
        if self._backend is None:
            raise L0GateError(_UNBOUND)
        return self._backend

    @property
    def cost(self) -> Cost:
        """The cost that is limited or penalized, as a function of the open neurons per axis."""
        if self._cost is None:
            raise L0GateError(_UNBOUND)
        return self._cost

    @property
    def limit(self) -> int | None:
        """The most that the small model may cost, in the budget's measure; None without one."""
        return self._limit

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis in the dense model."""
        return self.cost.sizes

    @property
    def trains_gates(self) -> bool:
        """Whether gates are trained by gradient (hard-concrete gates), not closed by scores."""
        return self.method.trains_gates

    @property
    def _prunable(self) -> list[str]:
        """The axes that may lose neurons."""
        return [axis for axis in self.layout.axes if axis not in self.freeze]
