"""The function `l0gate.report`: what the gates have decided, and what shrinking would save."""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._backend import Parameters, itemsize
from l0gate._errors import L0GateError, check
from l0gate._pruner import Pruner
from l0gate._state import State
from l0gate.files import write_atomically
from l0gate.layout.cost import MEASURES, Cost
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Pattern
from l0gate.reports.data import OUTSIDE, AxisReport, BudgetReport, PartReport, ReportData
from l0gate.reports.text import text

_NO_REASON = "named in `freeze`"
_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Report(ReportData):
    """The figures that `report` computes. `str` gives a table, `to_dict` JSON, `plot` a picture.

    `selected` is whether every neuron is decided; until then, `after` is what shrinking would keep
    now. To meet the budget, `forced_open` neurons were kept although their gates were closed, and
    `forced_closed` removed although theirs were open. Without parameters, `parts` is empty.
    """

    def __str__(self) -> str:
        return text(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of the report to a .png, .pdf or .svg file. Needs the extra `plot`."""
        suffix = Path(path).suffix.lower()
        check(
            suffix in _FORMATS,
            f"`path` is '{os.fspath(path)}'; its name must end in {', '.join(_FORMATS)}",
        )
        try:
            from l0gate.reports.picture import draw
        except ImportError as error:
            raise L0GateError(
                f"`plot` needs matplotlib (pip install 'l0gate[plot]'): {error}"
            ) from None
        write_atomically(path, draw(self, suffix[1:]))


def report(gated: Any, state: State | None = None, parameters: Parameters | None = None) -> Report:
    """What the gates have decided, and what shrinking would save: per axis, per part, in total.

    `gated` is what `l0gate.gate` returned. Or it is a `Pruner`; then give a gate `state` too and,
    for the cost of the model's parts, the dense model's `parameters`. The figures are those that
    `shrink` would give now. Nothing is changed and no model is run.

    A gated model of another kind needs an attribute `pruner` and a method `gate_state()`, which
    returns the gate state and the parameters. Its attribute `frozen`, if it has one, maps axes to
    the reasons why they are not pruned.

    >>> import numpy as np
    >>> from l0gate import Budget, Layout
    >>> parameters = {"rnn.w": np.ones((12, 5)), "rnn.u": np.ones((12, 3)), "out": np.ones((2, 3))}
    >>> layout = Layout({"rnn.w": "(4 h) <- x", "rnn.u": "(4 h) <- h", "out": "_ <- h"})
    >>> pruner = Pruner(layout, Budget(parameters=0.5), freeze=["x"])
    >>> state = pruner.init(parameters, log_alpha={"h": [3.0, -5.0, 0.0]})
    >>> print(report(pruner, state, parameters))
    axis  before  open  half-open  closed  after
    x          5     5          0       0      5  frozen: named in `freeze`
    h          3     1          1       1      1
    <BLANKLINE>
    part   parameters  multiply-adds       bytes  left
    rnn      96 -> 24       96 -> 24  768 -> 192   25%
    out        6 -> 2         6 -> 2    48 -> 16   33%
    total   102 -> 26      102 -> 26  816 -> 208   25%
    <BLANKLINE>
    Budget: 51 of 102 parameters; the small model has 26 (25.5%).
    Expected size 54.2% at progress 0%, where the target is 100.0%.
    Some neurons are undecided: `after` is what shrinking would keep now.
    """
    pruner, state, parameters, reasons = _resolve(gated, state, parameters)
    if parameters is not None:
        pruner.bind(parameters)
    frozen = {axis: reasons.get(axis, _NO_REASON) for axis in pruner.freeze}
    with warnings.catch_warnings():
        # The report itself shows what these warnings say.
        warnings.simplefilter("ignore", UserWarning)
        kept = pruner.kept(pruner.settle(state, parameters))
    after = {axis: len(index) for axis, index in kept.items()}
    opened, closed = (int(n) for n in pruner.backend.to_numpy(state["forced"]))
    return Report(
        axes=tuple(_axes(pruner, state, after, frozen)),
        parts=() if parameters is None else tuple(_parts(pruner, parameters, after)),
        budget=_budget(pruner, state, after),
        progress=_progress(pruner, state),
        selected=pruner.selected(state),
        forced_open=opened,
        forced_closed=closed,
    )


def _resolve(
    gated: Any, state: State | None, parameters: Parameters | None
) -> tuple[Pruner, State, Parameters | None, Mapping[str, str]]:
    """The pruner, gate state, parameters and reasons for frozen axes, from `report`'s arguments."""
    if isinstance(gated, Pruner):
        check(
            isinstance(state, Mapping) and "log_alpha" in state,
            f"`state` is {state!r:.80}; with a Pruner it must be a gate state, as `init` returns",
        )
        assert state is not None
        return gated, state, parameters, {}
    check(
        isinstance(getattr(gated, "pruner", None), Pruner) and hasattr(gated, "gate_state"),
        f"`gated` is {type(gated).__name__}; it must be a gated model, with `pruner` and"
        " `gate_state()`, or a Pruner",
    )
    check(
        state is None and parameters is None,
        "give `state` and `parameters` with a Pruner only; a gated model has its own",
    )
    own_state, own_parameters = gated.gate_state()
    reasons = getattr(gated, "frozen", None)
    return (
        gated.pruner,
        own_state,
        own_parameters,
        dict(reasons) if isinstance(reasons, Mapping) else {},
    )


def _axes(
    pruner: Pruner, state: State, after: Mapping[str, int], frozen: Mapping[str, str]
) -> list[AxisReport]:
    gates, rows = pruner.gates(state), []
    for axis in pruner.layout.in_reading_order:
        gate = pruner.backend.to_numpy(gates[axis])
        rows.append(
            AxisReport(
                axis=axis,
                before=len(gate),
                open=int(np.sum(gate == 1)),
                half_open=int(np.sum((gate > 0) & (gate < 1))),
                closed=int(np.sum(gate == 0)),
                after=after[axis],
                frozen=frozen.get(axis),
            )
        )
    return rows


def _parts(pruner: Pruner, parameters: Parameters, after: Mapping[str, int]) -> list[PartReport]:
    layout, backend = pruner.layout, pruner.backend
    parts = []
    for part, names in _grouped(layout).items():
        before, small = {}, {}
        for measure in MEASURES:
            # `Cost` refuses parameters that need no multiply-adds, as no budget can limit them.
            idle = measure == "multiply_adds" and not any(map(layout.uses, names))
            cost = None if idle else Cost(layout, parameters, measure, names, backend)
            before[measure] = 0 if cost is None else cost.total
            small[measure] = 0 if cost is None else cost.at(after)
        parts.append(PartReport(part, names, before, small))
    outside = tuple(
        name
        for name in parameters
        if name not in layout.patterns and hasattr(parameters[name], "shape")
    )
    if outside:
        arrays = [parameters[name] for name in outside]
        same = {
            "parameters": sum(math.prod(a.shape) for a in arrays),
            "bytes": sum(math.prod(a.shape) * itemsize(backend, a) for a in arrays),
            "multiply_adds": None,
        }
        parts.append(PartReport(OUTSIDE, outside, same, same))
    return parts


def _grouped(layout: Layout) -> dict[str, tuple[str, ...]]:
    """The parameters by part: those of one module that write the same axes, such as a layer."""
    modules: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, given in layout.patterns.items():
        slices = (given,) if isinstance(given, Pattern) else given
        dimensions = [d for pattern in slices for d in pattern.dimensions if not d.reads]
        written = dict.fromkeys(axis for d in dimensions for axis in d.axes)
        modules[name.rpartition(".")[0] or name][", ".join(written) or "_"].append(name)
    return {
        f"{module} ({axes})" if len(by_axes) > 1 else module: tuple(names)
        for module, by_axes in modules.items()
        for axes, names in by_axes.items()
    }


def _budget(pruner: Pruner, state: State, after: Mapping[str, int]) -> BudgetReport:
    budget, cost = pruner.budget, pruner.cost
    expected = float(pruner.backend.to_numpy(pruner.expected_size(state))) / float(cost.total)
    of = "layout" if budget is None else budget.of
    return BudgetReport(
        measure="parameters" if budget is None else budget.measure,
        of=of if isinstance(of, str) else tuple(of),
        before=cost.total,
        after=cost.at(after),
        expected=expected,
        target=None if budget is None else float(pruner.target(_progress(pruner, state))),
        goal=None if budget is None else float(pruner.target(1.0)),
        limit=pruner.limit,
    )


def _progress(pruner: Pruner, state: State) -> float:
    return float(pruner.backend.to_numpy(state["progress"])[0])
