"""Frozen axes: those whose neurons are all kept, the reasons, and how the user is told.

An axis is frozen where the user asks for it (`freeze=`), where the model returns its neurons to the
caller, and where the model uses them in a way that the tracer cannot follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from l0gate._errors import check, warn
from l0gate.backends._torch.tracing.labels import Axis
from l0gate.layout.layout import Layout

REQUESTED = "named in `freeze`"
RETURNED = "the model returns its neurons to the caller, so their number must not change"


def freezing_reasons(axes: Sequence[Axis], freeze: Sequence[str]) -> dict[str, str]:
    """Why each frozen axis is frozen, by its name; `freeze` are the names that the user gave."""
    reasons = {}
    for axis in axes:
        if axis.name in freeze:
            reasons[axis.name] = REQUESTED
        elif axis.reasons or axis.returned:
            reasons[axis.name] = [*axis.reasons, RETURNED][0]
    return reasons


def describe_frozen(reasons: Mapping[str, str], others: Sequence[str] = ()) -> str:
    """The frozen axes with their reasons, then `others`, as lines of a message."""
    return "\n".join(
        ["these parts of the model are frozen, not pruned:", *_lines(reasons), *others]
    )


def warn_about_frozen(reasons: Mapping[str, str], others: Sequence[str]) -> None:
    """Warn of what is frozen without the user having asked for it, and say what to do.

    `others` are lines about parts of the model that are not pruned either.
    """
    unasked = {axis: reason for axis, reason in reasons.items() if reason != REQUESTED}
    if unasked or others:
        accept = f"`freeze={list(unasked)}` accepts that without a warning, " if unasked else ""
        warn(
            f"{describe_frozen(unasked, others)}\n{accept}`layout=` describes the model by hand,"
            " and `strict=True` makes what cannot be followed an error"
        )


def check_some_prunable(layout: Layout, reasons: Mapping[str, str]) -> None:
    """Refuse a model in which every axis of the layout is frozen."""
    check(
        set(layout.axes) - set(reasons),
        "no neuron of the model can be pruned, since every axis is frozen:\n"
        + "\n".join(_lines(reasons))
        + "\ngive `layout=` to describe the model by hand",
    )


def check_all_followed(axes: Sequence[Axis], freeze: Sequence[str], ungated: Sequence[str]) -> None:
    """`strict=True`: refuse axes that cannot be followed, unless the user froze them."""
    blocked = {a.name: a.reasons[0] for a in axes if a.reasons and a.name not in freeze}
    names = ", ".join(map(repr, blocked))
    lines = [*_lines(blocked), *ungated]
    check(
        not lines,
        "the layout cannot be derived, since the model uses these neurons in a way that l0gate"
        " cannot follow, so it cannot prune them:\n"
        + "\n".join(lines)
        + f"\ngive `freeze=[{names}]` to keep all of them, or `layout=` to describe the model by"
        " hand",
    )


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"  axis {axis!r}: {reason}" for axis, reason in reasons.items()]
