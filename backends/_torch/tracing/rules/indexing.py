"""Parts of a tensor: indices, slices, chunks and selections.

Parts along other dimensions than the neurons', such as time, are followed. Along the neurons' own
dimension, a part is followed only if it consists of whole axes, such as one direction.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from l0gate.backends._torch.tracing.labels import (
    Features,
    Parts,
    StackedStates,
    bounds_of,
    cut,
    resolve,
    width,
)
from l0gate.backends._torch.tracing.rules.common import (
    CANNOT_UNITE,
    along_other_dimension,
    on_features,
    pieces,
    tensors_of,
)
from l0gate.backends._torch.tracing.tracer import Call, Trace

_MOST_PIECES = 8  # a slice that leaves more pieces than gates of a cell is not one of them


def index(trace: Trace, call: Call) -> str | None:
    """`x[...]`: followed along other dimensions, and along the neurons' for a slice of whole axes.

    An integer index into stacked states gives the state of one layer and direction.
    """
    tensor, given = call.args
    label = trace.label_of(tensor)
    if isinstance(label, StackedStates):
        if isinstance(given, int) and not isinstance(given, bool):
            trace.label(call.out, Features(-1, label.parts[given]))
            return None
        label = trace.features_from(label)
    if label is None:
        return "an index"
    items = list(given) if isinstance(given, tuple) else [given]
    # `...` stands for as many full slices as there are dimensions that no item takes.
    missing = [slice(None)] * (tensor.dim() - sum(_taken_by(i) for i in items if i is not ...))
    place = next((k for k, i in enumerate(items) if i is ...), len(items))
    items[place : place + 1] = missing
    dim, at = label.dim + tensor.dim(), 0
    for k, item in enumerate(items):
        span = _taken_by(item)
        if at <= dim < at + span:
            rest = items[k + 1 :]
            parts = None
            if isinstance(item, slice) and all(
                i is None or isinstance(i, (int, slice)) for i in rest
            ):
                parts = _slice(trace, label, item)
            if parts is None:
                return "an index that selects some of its neurons, or reorders them"
            behind = sum(not isinstance(i, int) for i in rest)
            trace.label(call.out, Features(-1 - behind, parts))
            return None
        at += span
    raise AssertionError("an index reaches every dimension")


def assignment(trace: Trace, call: Call) -> str | None:
    """`x[...] = y`, such as outputs filled in step by step.

    It is followed if x and y have the neurons in their last dimension, of which the index takes
    all, and if each of them has neurons or is constant along that dimension.
    """
    target, given, value = call.args
    items = list(given) if isinstance(given, tuple) else [given]
    spans = sum(_taken_by(item) for item in items if item is not ...)
    if ... in [i for i in items if not isinstance(i, Tensor)]:
        last = items[-1]
        whole = last is ... or last == slice(None)
    else:
        whole = spans < target.dim() or (isinstance(items[-1], slice) and items[-1] == slice(None))
    labels = [trace.label_of(t) for t in (target, value)]
    own = [None if label is None else trace.features_from(label) for label in labels]
    if not whole or any(label is not None and label.dim != -1 for label in own):
        return "an assignment to some of its neurons, or in another dimension"
    united: Parts | None = None
    for label in own:
        if label is not None:
            reason = f"{trace.where()} uses its neurons in an assignment, {CANNOT_UNITE}"
            parts = label.parts
            united = parts if united is None else trace.unite_parts(united, parts, reason)
            if united is None:
                return f"an assignment, {CANNOT_UNITE}"
    if united is None:
        return "an assignment"
    for tensor, label in zip((target, value), own, strict=True):
        if label is None and isinstance(tensor, Tensor) and tensor.dim():
            constant = call.constant_along(tensor, -1)
            if not constant and not trace.record_unlabelled(tensor, -1, united):
                return "an assignment, together with a tensor that is not pruned along with it"
    trace.label(target, Features(-1, united))
    return None


def _taken_by(item: Any) -> int:
    """How many dimensions of the tensor this item of an index takes."""
    is_mask = isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8)
    return 0 if item is None else item.dim() if is_mask else 1


def _slice(trace: Trace, label: Features, cut_at: slice) -> Parts | None:
    """The parts that a slice along the neurons' dimension takes, or None if it is not followed.

    A dimension is made of parts: groups of neurons that can be pruned, and fixed positions that
    cannot. The bounds of the slice must lie between parts. It is followed in two cases. First, if
    pruning cannot move its bounds: nothing before its start can be pruned, and it ends where the
    dimension ends or before the first group. Second, if the slices of the model cut the dimension
    into pieces of equal size: then all pieces are made to lose the same neurons, so that they stay
    equal, and code that computes a bound from the size of a piece is right in the small model too.
    """
    total = width(label.parts)
    start, stop, step = cut_at.indices(total)
    if step != 1 or not start < stop:
        return None
    found = cut(label.parts, (start, stop))
    if found is not None:
        parts = resolve(found)
        bounds = bounds_of(parts)
        first, last = bounds.index(start), bounds.index(stop)
        fixed = [axis is None for axis, _ in parts]
        if all(fixed[:first]) and (last == len(parts) or all(fixed[:last])):
            return parts[first:last]
    each = gcd(start, stop, total)
    if total // each > _MOST_PIECES:
        return None
    same = pieces(trace, label, total // each)
    if same is None:
        return None
    return tuple(part for piece in same[start // each : stop // each] for part in piece)


@on_features
def narrow(trace: Trace, call: Call) -> str | None:
    """`narrow`: followed like a slice of that dimension."""
    label, (dim, start, length) = (
        call.features,
        (call.argument(i, name) for i, name in enumerate(("dim", "start", "length"), start=1)),
    )
    count = call.given[0].dim()
    numbers = all(isinstance(number, int) for number in (dim, start, length))
    if label is None or not numbers or dim % count - count != label.dim:
        return along_other_dimension(1)(trace, call)
    parts = _slice(trace, label, slice(start, start + length))
    if parts is None:
        return "narrow along their own dimension"
    trace.label(call.out, Features(label.dim, parts))
    return None


def chunk(trace: Trace, call: Call) -> str | None:
    """`chunk` and `split`: along the neurons' dimension, only into equal pieces of whole axes."""
    label = trace.features_from(call.labels[0]) if 0 in call.labels else None
    dim, count = call.argument(2, "dim", 0), call.given[0].dim()
    if label is None or dim % count - count != label.dim or not isinstance(call.out, tuple):
        return along_other_dimension(2, default=0)(trace, call)
    widths = [out.shape[label.dim] for out in call.out]
    each = gcd(*widths)
    found = (
        None if sum(widths) // each > _MOST_PIECES else pieces(trace, label, sum(widths) // each)
    )
    if found is None:
        return f"{call.name} along their own dimension"
    start = 0
    for out, size in zip(call.out, widths, strict=True):
        own = found[start : start + size // each]
        start += size // each
        trace.label(out, Features(label.dim, tuple(part for piece in own for part in piece)))
    return None


@on_features
def glu(trace: Trace, call: Call) -> str | None:
    """`glu`: one half of the neurons is multiplied by the sigmoid of the other half."""
    label, dim = call.features, call.argument(1, "dim", -1)
    if label is None or dim % call.given[0].dim() - call.given[0].dim() != label.dim:
        return along_other_dimension(1, default=-1)(trace, call)
    found = pieces(trace, label, 2)
    if found is None:
        return "glu along their own dimension"
    trace.label(call.out, Features(label.dim, found[0]))
    return None


def index_select(trace: Trace, call: Call) -> str | None:
    """`index_select`: followed along other dimensions than the neurons'.

    `nn.LSTM`, `nn.GRU` and `nn.RNN` call it themselves if they are given a packed batch that is not
    sorted by length: it reorders the stacked states along their batch dimension.
    """
    label = call.labels.get(0)
    inside = isinstance(trace.model.get_submodule(trace.path[-1]), nn.RNNBase)
    if isinstance(label, StackedStates) and inside and call.argument(1, "dim") == 1:
        trace.label(call.out, label)
        return None
    return along_other_dimension(1)(trace, call)


def select(trace: Trace, call: Call) -> str | None:
    """`select` and `unbind`: the results lack one dimension, which must not be the neurons'.

    `unbind` of stacked states gives the state of each layer and direction.
    """
    tensor, dim = call.given[0], call.argument(1, "dim", 0)
    label = trace.label_of(tensor)
    if isinstance(label, StackedStates):
        if call.name == "unbind" and dim == 0:
            for part, out in zip(label.parts, call.out, strict=True):
                trace.label(out, Features(-1, part))
            return None
        label = trace.features_from(label)
    if label is None or (gone := dim % tensor.dim() - tensor.dim()) == label.dim:
        return f"{call.name} along their own dimension"
    for out in tensors_of(call.out):
        trace.label(out, Features(label.dim + (gone > label.dim), label.parts))
    return None
