"""Derives a layout: which parameters of a model write and read which neurons.

The model runs once under a `Trace`. What the trace finds is turned into axis names and patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torch import nn

from l0gate._errors import check, warn
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.pytree import Inputs
from l0gate.backends._torch.tracing.frozen import check_all_followed, freezing_reasons
from l0gate.backends._torch.tracing.labels import Axis, Features, Parts, Use, axes_in, resolve, root
from l0gate.backends._torch.tracing.rules import RULES
from l0gate.backends._torch.tracing.tracer import Trace
from l0gate.layout.cycles import axes_on_cycles
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Dimension


@dataclass(frozen=True)
class Derived:
    """The layout of a model, and what else the trace found.

    `layers` describes the calls of the model as the layers of a chain (`l0gate._chain`); whether
    the model is a chain is not checked here. `reasons` maps every frozen axis to the reason. It may
    name axes that are not in the layout, because no parameter reads them. `ungated` has a message
    line for each recurrent module that ran but cannot be gated. `held` has the patterns of tensors
    that the model holds in attributes, and of buffers that it is given as a state. `sizes` maps
    attributes that hold the size of an axis, such as "hidden_size", to that axis.
    """

    layout: Layout
    layers: list[dict[str, Any]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    ungated: tuple[str, ...] = ()
    sizes: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)


def derive(
    model: nn.Module,
    inputs: Inputs,
    freeze: Sequence[str] = (),
    *,
    strict: bool = False,
    calls: int = 1,
) -> Derived:
    """Derive the layout of a model from `calls` calls with `inputs`, one after the other, in eval
    mode.

    The axes in `freeze` keep all their neurons. Other axes are frozen if the model uses their
    neurons in a way that cannot be followed; with `strict` that is an error.
    """
    model = copied(model, share_parameters=True).eval()
    trace = Trace(model, RULES)
    with undisturbed():
        for _ in range(calls):
            trace.run(inputs)
    ungated = _ungated_modules(trace)
    _warn_of_unused(trace)
    for name, reason in trace.other_uses.items():
        if name in trace.uses:
            _freeze_parameter(trace, trace.uses[name], reason)
    axes = _named(trace)
    unknown = set(freeze) - {axis.name for axis in axes}
    check(
        not unknown,
        f"`freeze` names {', '.join(map(repr, sorted(unknown)))}; the axes of the model are"
        f" {', '.join(axis.name for axis in axes)}",
    )
    if strict:
        check_all_followed(axes, freeze, ungated)
    reasons = freezing_reasons(axes, freeze)
    # Gates are folded into the parameters that read the neurons. An axis that no parameter reads is
    # left out of the layout.
    read = {axis for use in trace.uses.values() for axis in axes_in(use.read)}
    axes = [axis for axis in axes if axis in read]
    _check_some_axis(axes, ungated)
    layout = Layout(
        {name: _pattern(use, axes) for name, use in trace.uses.items()},
        uses={name: 0 for name, use in trace.uses.items() if use.lookup},
    )
    held = {
        name: _pattern(Use(" ".join(f"{{{i}}}" for i in range(len(own))), own), axes)
        for name, own in trace.held_parts.items()
        if name not in layout.patterns
    }
    held = {name: pattern for name, pattern in held.items() if set(pattern) - set("_ ")}
    return Derived(layout, trace.layers, reasons, tuple(ungated), _sizes(axes), held)


def _freeze_parameter(trace: Trace, use: Use, reason: str) -> None:
    trace.freeze([Features(-1, dimension) for dimension in use.dimensions], reason)


# Modules --------------------------------------------------------------------------------------


def _ungated_modules(trace: Trace) -> list[str]:
    """Return a message line for each recurrent module that ran but cannot be gated.

    The parameters of these modules are removed from the trace, and their axes are frozen. Recurrent
    modules that did not run cause a warning.
    """
    ungated = []
    gated = {
        name: name in trace.recurrent
        for name, module in trace.model.named_modules()
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase))
    }
    for name in [name for name, has_gates in gated.items() if not has_gates]:
        what = f"module {name!r} ({type(trace.model.get_submodule(name)).__name__})"
        if name in trace.called:
            why = "is not followed, since it calls none of torch's functions for recurrent layers"
            ungated.append(f"  {what} {trace.ungated.get(name, why)}")
            for own in [own for own in trace.uses if own.rpartition(".")[0] == name]:
                _freeze_parameter(trace, trace.uses.pop(own), ungated[-1].strip())
        else:
            warn(f"{what} did not run on `example_inputs`, so it is not gated")
    return ungated


def _check_some_axis(axes: Sequence[Axis], ungated: Sequence[str]) -> None:
    check(
        axes,
        "no recurrent layer of torch's own that could be gated (nn.LSTM, nn.GRU, nn.RNN or one of"
        " their cells) ran on `example_inputs`, nor any other whose neurons could be followed"
        + "".join(f"\n{line}" for line in ungated)
        + "\n`layout=` describes a model by hand, as in"
        " `layout=l0gate.Layout({'cell.weight_x': '(4 h) <- _', 'cell.weight_h': '(4 h) <- h',"
        " 'out.weight': '_ <- h'})`",
    )


def _sizes(axes: Sequence[Axis]) -> dict[str, str]:
    """The attributes that hold the size of an axis, without those that hold two sizes."""
    owners: dict[str, list[str]] = {}
    for axis in axes:
        for name in sorted(axis.sizes):
            owners.setdefault(name, []).append(axis.name)
    return {name: own[0] for name, own in owners.items() if len(own) == 1}


def _warn_of_unused(trace: Trace) -> None:
    """Warn of modules that did not run, such as an auxiliary head: they may read pruned neurons."""
    unused = [
        path
        for path, module in trace.model.named_modules()
        if path not in trace.called and not isinstance(module, nn.RNNBase | nn.RNNCellBase)
        if (
            own := [f"{path}.{key}" for key, p in module.named_parameters(recurse=False) if p.dim()]
        )
        if not trace.touched.intersection(own)
    ]
    if unused:
        warn(
            f"{', '.join(unused)} did not run on `example_inputs` in eval mode. If they read"
            " neurons that are pruned, no gate reaches them in training and the small model fails:"
            " give inputs that use these modules, or `freeze=` the axes that they read"
        )


# Names and patterns ---------------------------------------------------------------------------


def _named(trace: Trace) -> list[Axis]:
    """The axes that can get gates: those with a name.

    Recurrent axes are named when they are created (h0, f1, b1). Feed-forward axes are named here
    after the first recurrent layer that reads them: x for layer 0, x1 for layer 1. Those that no
    recurrent layer reads get no name and no gates.
    """
    found = list(
        dict.fromkeys(a for axis in trace.axes.values() for a in axes_in(((axis, axis.size),)))
    )
    taken = {axis.name for axis in found}
    cells = _cells(trace, found)
    names = (f"h{number}" for number in count(trace.depth))
    for axis in cells:
        axis.name = next(names)
        taken.add(axis.name)
    if not trace.recurrent and not cells:  # a cell without a product over its neurons, such as SRU
        for use in trace.uses.values():
            for axis in axes_in(use.read):
                axis.depth = 0
    for axis in found:
        if not axis.name and axis.depth is not None:
            base = f"x{axis.depth}" if axis.depth else "x"
            axis.name = next(n for n in _candidates(base) if n not in taken)
            taken.add(axis.name)
    return [axis for axis in found if axis.name]


def _cells(trace: Trace, axes: Sequence[Axis]) -> list[Axis]:
    """The axes of hand-written cells: those that are read and written in turn, several times.

    The axes that they read get the depth of their first recurrent layer. Beside a recurrent layer
    of torch's own, "several" means more than twice: a highway network that a model uses for two
    inputs, such as a passage and a question, is no cell.
    """
    least = 3 if trace.recurrent else 2
    unnamed = {str(id(axis)): axis for axis in axes if not axis.name}
    again = [
        use for name, use in trace.uses.items() if trace.times[name] >= least and not use.lookup
    ]

    def uses_of(axis: str, read: bool) -> tuple[str, ...]:
        return tuple(
            str(i)
            for i, use in enumerate(again)
            if use.read and unnamed[axis] in axes_in(use.read if read else _written(use))
        )

    found = axes_on_cycles(list(unnamed), lambda a: uses_of(a, True), lambda a: uses_of(a, False))
    cells = [axis for key, axis in unnamed.items() if key in found]
    for use in trace.uses.values():
        if set(axes_in(_written(use))) & set(cells):
            for axis in axes_in(use.read):
                if axis not in cells and axis.depth is None:
                    axis.depth = trace.depth
    return cells


def _written(use: Use) -> Parts:
    return use.dimensions[1 if "->" in use.form else 0]


def _candidates(base: str) -> Iterable[str]:
    """Names to try: base, base_2, base_3, ..."""
    yield base
    number = 2
    while True:
        yield f"{base}_{number}"
        number += 1


def _pattern(use: Use, axes: Sequence[Axis]) -> str:
    """The pattern of a parameter in the notation of layouts, such as `(4 h0) <- x`.

    Only the axes in `axes` are named; all other positions are written as numbers. A dimension
    without any of these axes is written `_`.
    """
    dimensions = []
    for i, parts in enumerate(use.dimensions):
        blocks: list[Block] = []
        for axis, size in resolve(parts):
            gated = axis is not None and root(axis) in axes
            name = root(axis).name if axis is not None and gated else None
            times = (use.blocks if i == 0 else 1) if gated else size
            inner = size // root(axis).size if axis is not None and gated else 1
            last = blocks[-1] if blocks else None
            if last and name and (last.axis, last.inner) == (name, inner):  # side by side: (2 h)
                blocks[-1] = Block(name, outer=last.outer + times, inner=inner)
            else:
                blocks.append(Block(name, outer=times, inner=inner))
        fixed = all(block.axis is None for block in blocks)
        dimensions.append(str(Dimension(() if fixed else tuple(blocks))))
    return use.form.format(*dimensions)
