"""Derives a layout: which parameters of a model write and read which neurons.

The model is run once under a `Trace`; its findings become names of axes and patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from l0gate._errors import check, warn
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.pytree import Inputs
from l0gate.backends._torch.tracing.frozen import check_all_followed, freezing_reasons
from l0gate.backends._torch.tracing.labels import Axis, Features, Use, axes_in, root
from l0gate.backends._torch.tracing.rules import RULES
from l0gate.backends._torch.tracing.tracer import Trace
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Dimension


@dataclass(frozen=True)
class Derived:
    """What a trace found.

    `frozen` are the axes of the layout whose neurons are all kept. `layers` are the calls of the
    model as the description of a chain (`l0gate._chain`), if it is one. `reasons` says why each
    axis is frozen; it may name axes that are not in the layout, because no parameter reads them.
    `ungated` has a line for each recurrent module without gates.
    """

    layout: Layout
    frozen: tuple[str, ...]
    layers: list[dict[str, Any]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    ungated: tuple[str, ...] = ()


def derive(
    model: nn.Module, inputs: Inputs, freeze: Sequence[str] = (), *, strict: bool = False
) -> Derived:
    """The layout of a model, from one run on `inputs` in eval mode.

    The axes in `freeze` keep all their neurons, however the model uses them. Other axes are frozen
    where the model uses their neurons in a way that cannot be followed; with `strict` that is an
    error.
    """
    model = copied(model, share=True).eval()
    trace = Trace(model, RULES)
    with undisturbed():
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
    # Gates are folded into readers, so an axis that no parameter reads is not part of the layout.
    read = {axis for use in trace.uses.values() for axis in axes_in(use.read)}
    axes = [axis for axis in axes if axis in read]
    layout = Layout(
        {name: _pattern(use, axes) for name, use in trace.uses.items()},
        uses={name: 0 for name, use in trace.uses.items() if use.lookup},
    )
    frozen = tuple(axis.name for axis in axes if axis.name in reasons)
    return Derived(layout, frozen, trace.layers, reasons, tuple(ungated))


def _freeze_parameter(trace: Trace, use: Use, reason: str) -> None:
    trace.freeze([Features(-1, dimension) for dimension in use.dimensions], reason)


# Modules --------------------------------------------------------------------------------------


def _ungated_modules(trace: Trace) -> list[str]:
    """A line for each recurrent module that ran without gates; one that did not run is a warning.

    Their parameters are removed from the trace. It is an error if no recurrent module has gates.
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
    check(
        any(gated.values()),
        "no recurrent layer of torch's own that could be gated (nn.LSTM, nn.GRU, nn.RNN or one of"
        " their cells) ran on `example_inputs`" + "".join(f"\n{line}" for line in ungated),
    )
    return ungated


def _warn_of_unused(trace: Trace) -> None:
    """Warn of modules that did not run, such as a head for training: they may read neurons."""
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
    """The axes that get gates, named as those of a chain are: x, h0, x1, f1, b1."""
    found = list(dict.fromkeys(root(axis) for axis in trace.axes.values()))
    taken = {axis.name for axis in found}
    for axis in found:
        if not axis.name and axis.depth is not None:
            base = f"x{axis.depth}" if axis.depth else "x"
            axis.name = next(n for n in _candidates(base) if n not in taken)
            taken.add(axis.name)
    return [axis for axis in found if axis.name]


def _candidates(base: str) -> Iterable[str]:
    yield base
    number = 2
    while True:
        yield f"{base}_{number}"
        number += 1


def _pattern(use: Use, axes: Sequence[Axis]) -> str:
    """The pattern of a parameter: other axes than these are written as fixed sizes.

    A dimension of fixed sizes alone is `_`.
    """
    dimensions = []
    for i, parts in enumerate(use.dimensions):
        blocks: list[Block] = []
        for axis, size in parts:
            gated = axis is not None and root(axis) in axes
            name = root(axis).name if axis is not None and gated else None
            times = (use.blocks if i == 0 else 1) if gated else size
            if blocks and name and blocks[-1].axis == name:  # side by side: (2 h)
                blocks[-1] = Block(name, outer=blocks[-1].outer + times)
            else:
                blocks.append(Block(name, outer=times))
        fixed = all(block.axis is None for block in blocks)
        dimensions.append(str(Dimension(() if fixed else tuple(blocks))))
    return use.form.format(*dimensions)
