"""`report`: what the gates have decided so far, and what the model costs before and after."""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._archive import write_atomically
from l0gate._cost import MEASURES, Cost
from l0gate._errors import L0GateError, check
from l0gate._layout import Layout
from l0gate._notation import Pattern
from l0gate._pruner import Pruner, State
from l0gate._tensor import Array, Backend, Parameters

_COLUMNS = ("parameters", "multiply_adds", "bytes")
_UNREASONED = "named in `freeze`"
_OUTSIDE = "not in the layout"
_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class AxisReport:
    """The neurons of one axis: how many there were, what their gates are at test time, how many
    the small model keeps. `frozen` is why the axis stays whole, or None."""

    axis: str
    before: int
    open: int
    half_open: int
    closed: int
    after: int
    frozen: str | None


@dataclass(frozen=True)
class PartReport:
    """What some parameters cost in the dense and in the small model, by measure.

    `parameters` are those of one module that write the same axes. Multiply-adds are counted per
    time step, and None for parameters outside the layout, about which it says nothing.
    """

    part: str
    parameters: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class BudgetReport:
    """The budget, in its own measure; `expected`, `target` and `goal` are fractions of `before`.

    `target` is the goal of this moment in training, `goal` and `limit` those of its end. Without
    a budget (`Pruner(strength=...)`) these three are None.
    """

    measure: str
    of: str | tuple[str, ...]
    before: Any
    after: Any
    expected: float
    target: float | None
    goal: float | None
    limit: int | None


@dataclass(frozen=True)
class Report:
    """What `report` found. `str` gives a table, `to_dict` JSON, `plot` a picture.

    `selected` says whether every neuron is decided. Until then `after` is what shrinking would
    keep now. `forced_open` and `forced_closed` count neurons that the selection decided against
    their gates. `parts` is empty where no parameters were given.
    """

    axes: tuple[AxisReport, ...]
    parts: tuple[PartReport, ...]
    budget: BudgetReport
    progress: float
    selected: bool
    forced_open: int
    forced_closed: int

    def total(self, measure: str = "parameters") -> tuple[Any, Any]:
        """What all parts cost before and after, in "parameters", "bytes" or "multiply_adds"."""
        check(measure in MEASURES, f"`measure` is {measure!r}; it must be one of {MEASURES}")
        check(self.parts, "the report knows no parts; give `parameters` to `report`")
        before, after = (
            sum(cost[measure] for cost in costs if cost[measure] is not None)
            for costs in ([p.before for p in self.parts], [p.after for p in self.parts])
        )
        return before, after

    @property
    def counted(self) -> str:
        """What the budget counts, in words: "recurrent parameters", "bytes of the layout"."""
        of, unit = self.budget.of, self.budget.measure.replace("_", "-")
        if of == "recurrent":
            return f"recurrent {unit}"
        if of != "layout":
            return f"{unit} of {of if isinstance(of, str) else ', '.join(of)}"
        return f"{unit} of the layout" if any(p.part == _OUTSIDE for p in self.parts) else unit

    def to_dict(self) -> dict[str, Any]:
        """All figures as dicts, lists, strings and numbers: ready for `json.dumps`."""
        content = {name: getattr(self, name) for name in ("progress", "selected")}
        content |= {"forced_open": self.forced_open, "forced_closed": self.forced_closed}
        total = None
        if self.parts:
            pairs = {measure: self.total(measure) for measure in MEASURES}
            total = {
                side: {measure: pair[i] for measure, pair in pairs.items()}
                for i, side in enumerate(("before", "after"))
            }
        return {
            "axes": [asdict(axis) for axis in self.axes],
            "parts": [{**asdict(part), "parameters": list(part.parameters)} for part in self.parts],
            "total": total,
            "budget": {
                **asdict(self.budget),
                "of": self.budget.of if isinstance(self.budget.of, str) else list(self.budget.of),
            },
            **content,
        }

    def __str__(self) -> str:
        blocks = [_table(_axis_rows(self), left=(0, 6))]
        if self.parts:
            blocks.append(_table(_part_rows(self), left=(0,)))
        return "\n\n".join([*blocks, "\n".join(_sentences(self))])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of the report: .png, .pdf or .svg. Needs the extra `plot`."""
        suffix = Path(path).suffix.lower()
        check(
            suffix in _FORMATS,
            f"`path` is '{os.fspath(path)}'; its name must end in {', '.join(_FORMATS)}",
        )
        try:
            from l0gate._report_picture import draw
        except ImportError as error:
            raise L0GateError(
                f"`plot` needs matplotlib (pip install 'l0gate[plot]'): {error}"
            ) from None
        write_atomically(path, draw(self, suffix[1:]))


def report(gated: Any, state: State | None = None, parameters: Parameters | None = None) -> Report:
    """How far the gates are and what shrinking saves: per axis, per part of the model, in all.

    `gated` is what `l0gate.gate` returned; or a `Pruner`, with a gate `state`, and with the dense
    model's `parameters` where the cost of its parts is wanted. Nothing is changed, and nothing
    run: the figures are those of `shrink` if it were called now.

    Any object may take the place of a gated model that has a `pruner`, a method `gate_state()`
    that returns the gate state and the parameters, and, if it likes, `frozen`: a dict from axis
    to the reason why it stays whole.

    >>> import numpy as np
    >>> from l0gate import Budget, Layout
    >>> parameters = {"rnn.w": np.ones((12, 5)), "rnn.u": np.ones((12, 3)), "out": np.ones((2, 3))}
    >>> layout = Layout({"rnn.w": "(4 h) <- x", "rnn.u": "(4 h) <- h", "out": "_ <- h"})
    >>> pruner = Pruner(layout, Budget(parameters=0.5), freeze=["x"])
    >>> state = pruner.init(parameters, log_alpha={"h": [3.0, -5.0, 0.0]})
    >>> print(report(pruner, state, parameters))
    axis  before  open  half-open  closed  after
    x          5     5          0       0      5  whole: named in `freeze`
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
    pruner, state, parameters, reasons = _subject(gated, state, parameters)
    if parameters is not None:
        pruner.bind(parameters)
    frozen = {axis: reasons.get(axis, _UNREASONED) for axis in pruner.freeze}
    with warnings.catch_warnings():
        # `shrink` and `select` warn of what these figures show.
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


def _subject(
    gated: Any, state: State | None, parameters: Parameters | None
) -> tuple[Pruner, State, Parameters | None, Mapping[str, str]]:
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
    order, gates, rows = list(pruner.layout.patterns), pruner.gates(state), []
    # As data meets them: what is read before what is written.
    for axis in sorted(gates, key=lambda a: order.index(pruner.layout.readers(a)[0])):
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
            # A cost of nothing at all is an error of a budget, not of a report.
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
            "bytes": sum(math.prod(a.shape) * _itemsize(backend, a) for a in arrays),
            "multiply_adds": None,
        }
        parts.append(PartReport(_OUTSIDE, outside, same, same))
    return parts


def _itemsize(backend: Backend, array: Array) -> int:
    name = backend.dtype(array)
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def _grouped(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Parameters of one module that write the same axes: a layer, or one of its directions."""
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


# Text -----------------------------------------------------------------------------------------


def _axis_rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("axis", "before", "open", "half-open", "closed", "after", "")]
    for a in report.axes:
        counts = (a.before, a.open, a.half_open, a.closed, a.after)
        note = "" if a.frozen is None else f"whole: {a.frozen}"
        rows.append((a.axis, *(f"{count:,}" for count in counts), note))
    return rows


def _part_rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("part", "parameters", "multiply-adds", "bytes", "left")]
    for part in report.parts:
        rows.append(_part_row(part.part, part.before, part.after))
    totals = {measure: report.total(measure) for measure in MEASURES}
    before, after = ({m: pair[i] for m, pair in totals.items()} for i in (0, 1))
    return [*rows, _part_row("total", before, after)]


def _part_row(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    figures = ["-" if before[m] is None else _change(before[m], after[m]) for m in _COLUMNS]
    # An array without a single entry costs nothing, and keeps all of it.
    left = after["parameters"] / before["parameters"] if before["parameters"] else 1.0
    return (part, *figures, f"{left:.0%}")


def _change(before: Any, after: Any) -> str:
    return f"{before:,.0f}" if before == after else f"{before:,.0f} -> {after:,.0f}"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _sentences(report: Report) -> list[str]:
    budget, unit = report.budget, report.counted
    has = f"the small model has {budget.after:,.0f} ({budget.after / budget.before:.1%})"
    if budget.limit is None:
        lines = [f"Of {budget.before:,.0f} {unit} {has}."]
    else:
        lines = [f"Budget: {budget.limit:,.0f} of {budget.before:,.0f} {unit}; {has}."]
    lines.append(f"Expected size {budget.expected:.1%} at progress {report.progress:.0%}")
    if budget.target is not None:
        lines[-1] += f", where the target is {budget.target:.1%}"
    lines[-1] += "."
    if any(part.part == _OUTSIDE for part in report.parts):
        kind = "bytes" if budget.measure == "bytes" else "parameters"
        before, after = report.total(kind)
        whole = f"{before:,.0f} {kind} to {after:,.0f} ({after / before:.1%})"
        lines.insert(1, f"The whole model goes from {whole}.")
    if report.selected:
        lines.append(
            f"Every neuron is decided: against their gates, {report.forced_open} were opened and"
            f" {report.forced_closed} closed."
        )
    else:
        lines.append("Some neurons are undecided: `after` is what shrinking would keep now.")
    return lines
