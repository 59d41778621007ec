"""Helpers that several propagation rules share.

A rule labels `call.out` and returns None. If it does not cover the call, it returns a phrase that
completes the sentence "module 'm' uses its neurons in ...".
"""

from __future__ import annotations

from functools import wraps
from itertools import pairwise
from typing import Any

from torch import Tensor

from l0gate.backends._torch.tracing.labels import Features, Parts, bounds_of, cut, resolve, width
from l0gate.backends._torch.tracing.tracer import Call, Rule, Trace

#: Part of a reason: the neurons of two tensors would have to be pruned together, and cannot be.
CANNOT_UNITE = "together with other neurons that cannot be pruned along with them"


def on_features(rule: Rule) -> Rule:
    """The rule, given `Features` labels only: labels of stacked states are converted first."""

    @wraps(rule)
    def converted(trace: Trace, call: Call) -> str | None:
        for i, label in call.labels.items():
            features = trace.features_from(label)
            if features is None:
                return f"{call.name} of stacked states"
            call.labels[i] = features
        return rule(trace, call)

    return converted


def tensors_of(out: Any) -> list[Tensor]:
    """The tensors that a call returned: one, or those of a tuple."""
    return [out] if isinstance(out, Tensor) else [t for t in out if isinstance(t, Tensor)]


def dimensions(call: Call, position: int, name: str = "dims") -> tuple[Any, ...]:
    """Dimensions given by name, as one tuple, or as separate arguments from `position` on."""
    given = call.kwargs.get(name, call.args[position:])
    if isinstance(given, (tuple, list)) and len(given) == 1:
        (given,) = given
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def along_other_dimension(
    position: int, name: str = "dim", *, several: bool = False, default: int | None = None
) -> Rule:
    """Make the rule of a function that works along one dimension, such as `cumsum`.

    The result has the same dimensions as the argument. The call is followed if the function works
    along another dimension than the neurons', such as time. The dimension is the argument `name`,
    at `position`; with `several` it is a tuple of dimensions.
    """

    @on_features
    def rule(trace: Trace, call: Call) -> str | None:
        label = call.features
        dims = (call.argument(position, name, default),)
        if several:
            dims = dimensions(call, position, name)
        if label is None or not dims or not all(isinstance(d, int) for d in dims):
            return f"{call.name} over all dimensions, or as another argument than the first"
        count = call.given[0].dim()
        if any(d % count - count == label.dim for d in dims):
            return f"{call.name} along their own dimension"
        if any(not call.constant_along(t, label.dim) for t in call.given[1:] if t.dim() == count):
            return f"{call.name}, whose index differs from neuron to neuron"
        for out in tensors_of(call.out):
            trace.label(out, label)
        return None

    return rule


def pieces(trace: Trace, label: Features, count: int) -> list[Parts] | None:
    """Cut a dimension into `count` pieces of equal size, such as two directions, and unite them.

    Returns the parts of each piece, or None if the pieces would differ in size. United pieces keep
    the same neurons, so code that cuts the dimension into equal pieces works in the small model.
    """
    size, over = divmod(width(label.parts), count)
    parts = None if over else cut(label.parts, range(0, size * count, size))
    if parts is None:
        return None
    parts = resolve(parts)
    bounds = bounds_of(parts)
    ends = [bounds.index(k * size) for k in range(count + 1)]
    groups = [parts[i:j] for i, j in pairwise(ends)]
    reason = f"{trace.where()} uses its neurons in pieces, {CANNOT_UNITE}"
    united: Parts | None = groups[0]
    for group in groups[1:]:
        united = united if united is None else trace.unite_parts(united, group, reason)
    return [united or ()] * len(groups)
