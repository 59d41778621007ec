"""Derives a layout: which parameters of a model write and read which neurons, from one run.

The run is followed call by call (`_torch_follow`); here its findings become names and patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from l0gate._errors import check, warn
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.pytree import Inputs
from l0gate.backends._torch.tracing.rules import CHAIN_ACTIVATIONS, FOLLOWED, QUERIES
from l0gate.backends._torch.tracing.rules.layers import ROLES, followed_modules
from l0gate.backends._torch.tracing.tracer import Axis, Features, Role, Rows, Trace, axes_in, root
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Dimension

ROWS = Rows(ROLES, FOLLOWED, QUERIES, CHAIN_ACTIVATIONS)
SEEN = "the caller sees it in an output"
ASKED = "named in `freeze`"


@dataclass(frozen=True)
class Derived:
    """What a trace found: `frozen` axes of the layout stay whole, `layers` are calls as a chain.

    `reasons` says of every axis without free gates why that is so. It may name axes that are not
    in the layout, because nothing was seen to read them.
    """

    layout: Layout
    frozen: tuple[str, ...]
    layers: list[dict[str, Any]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    ungated: tuple[str, ...] = ()  # a line for each recurrent module that has no gates at all


# The layout -----------------------------------------------------------------------------------


def derive(
    model: nn.Module, inputs: Inputs, freeze: Sequence[str] = (), *, strict: bool = False
) -> Derived:
    """The layout of a model, from one run on `inputs`.

    The axes in `freeze` stay whole, so that whatever happens to their neurons is allowed. Others
    stay whole where they cannot be followed, which is an error if `strict`.
    """
    model = copied(model, share=True).eval()
    trace = Trace(model, ROWS)
    with undisturbed():
        trace.run(inputs)
    ungated = _check_recurrent(trace)
    _warn_of_unused(trace)
    for name, reason in trace.elsewhere.items():
        if name in trace.roles:
            for dimension in trace.roles[name].dimensions:
                trace.need([Features(-1, dimension)], reason)
    axes = _named(trace)
    unknown = set(freeze) - {axis.name for axis in axes}
    check(
        not unknown,
        f"`freeze` names {', '.join(map(repr, sorted(unknown)))}; the axes of the model are"
        f" {', '.join(axis.name for axis in axes)}",
    )
    if strict:
        _refuse(axes, freeze, ungated)
    reasons = {}
    for axis in axes:
        if axis.name in freeze or axis.reasons or axis.seen:
            why = [*axis.reasons, SEEN]
            reasons[axis.name] = ASKED if axis.name in freeze else why[0]
    # Neurons that nobody was seen to read have no gates: they are frozen, and lost on their way.
    read = {axis for role in trace.roles.values() for axis in axes_in(role.read)}
    axes = [axis for axis in axes if axis in read]
    layout = Layout(
        {name: _pattern(role, axes) for name, role in trace.roles.items()},
        uses={name: 0 for name, role in trace.roles.items() if role.lookup},
    )
    frozen = tuple(axis.name for axis in axes if axis.name in reasons)
    return Derived(layout, frozen, trace.layers, reasons, tuple(ungated))


def _check_recurrent(trace: Trace) -> list[str]:
    """No recurrent module is left out in silence: a line for each that is not gated."""
    ungated = []
    followed = followed_modules(trace, trace.model)
    for name, gated in followed.items():
        if gated:
            continue
        what = f"module {name!r} ({type(trace.model.get_submodule(name)).__name__})"
        if name in trace.called:
            why = "is not followed, since it calls none of torch's functions for recurrent layers"
            ungated.append(f"  {what} {trace.ungated.get(name, why)}")
            for own in [own for own in trace.roles if own.rpartition(".")[0] == name]:
                for dimension in trace.roles.pop(own).dimensions:
                    trace.need([Features(-1, dimension)], ungated[-1].strip())
        else:
            warn(f"{what} did not run on `example_inputs`, so it is not gated")
    check(
        any(followed.values()),
        "no recurrent layer of torch's own that could be gated (nn.LSTM, nn.GRU, nn.RNN or one of"
        " their cells) ran on `example_inputs`" + "".join(f"\n{line}" for line in ungated),
    )
    return ungated


def _warn_of_unused(trace: Trace) -> None:
    """What did not run could read neurons that go: a head for training, or for another task."""
    idle = [
        path
        for path, module in trace.model.named_modules()
        if path not in trace.called and not isinstance(module, nn.RNNBase | nn.RNNCellBase)
        if (
            own := [f"{path}.{key}" for key, p in module.named_parameters(recurse=False) if p.dim()]
        )
        if not trace.touched.intersection(own)
    ]
    if idle:
        warn(
            f"{', '.join(idle)} did not run on `example_inputs` in eval mode. Where they read"
            " neurons that go, the small model fails, and no gate reaches them while it trains:"
            " give inputs that use them, or `freeze=` the axes that they read"
        )


def check_some_free(derived: Derived) -> None:
    """A model that would keep every neuron has nothing to gate."""
    check(
        set(derived.layout.axes) - set(derived.frozen),
        "no neuron of the model can go, since every axis must stay whole:\n"
        + "\n".join(_lines(derived.reasons))
        + "\ngive `layout=` to describe the model by hand",
    )


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"  axis {axis!r}: {reason}" for axis, reason in reasons.items()]


def warn_of_whole(reasons: Mapping[str, str], ungated: Sequence[str]) -> None:
    """Say which neurons stay whole without having been asked to, and why."""
    unasked = {axis: reason for axis, reason in reasons.items() if reason != ASKED}
    if unasked or ungated:
        accept = f"`freeze={list(unasked)}` accepts that, " if unasked else ""
        warn(
            f"{told_whole(unasked, ungated)}\n{accept}`layout=` describes the model by hand, and"
            " `strict=True` makes what cannot be followed an error"
        )


def told_whole(reasons: Mapping[str, str], others: Sequence[str] = ()) -> str:
    return "\n".join(["these neurons stay whole:", *_lines(reasons), *others])


def _refuse(axes: Sequence[Axis], freeze: Sequence[str], ungated: Sequence[str]) -> None:
    blocked = {a.name: a.reasons[0] for a in axes if a.reasons and a.name not in freeze}
    names = ", ".join(map(repr, blocked))
    lines = [*_lines(blocked), *ungated]
    check(
        not lines,
        "the layout cannot be derived, since these neurons are used in a way that cannot be"
        " followed when some of them go:\n" + "\n".join(lines) + f"\ngive `freeze=[{names}]` to"
        " keep them all, or `layout=` to describe the model by hand",
    )


def _named(trace: Trace) -> list[Axis]:
    """The axes that get gates, with names in the style of a chain: x, h0, x1, f1, b1."""
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


def _pattern(role: Role, axes: Sequence[Axis]) -> str:
    """Axes without gates are fixed parts; a dimension of fixed parts alone is `_`."""
    dimensions = []
    for i, parts in enumerate(role.dimensions):
        blocks: list[Block] = []
        for axis, size in parts:
            gated = axis is not None and root(axis) in axes
            name = root(axis).name if axis is not None and gated else None
            times = (role.blocks if i == 0 else 1) if gated else size
            if blocks and name and blocks[-1].axis == name:  # side by side: (2 h)
                blocks[-1] = Block(name, outer=blocks[-1].outer + times)
            else:
                blocks.append(Block(name, outer=times))
        free = all(block.axis is None for block in blocks)
        dimensions.append(str(Dimension(() if free else tuple(blocks))))
    return role.form.format(*dimensions)
