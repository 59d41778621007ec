"""Functions that move, merge, split, add, pad or repeat dimensions, or copy the tensor."""

from __future__ import annotations

from torch import Tensor

from l0gate.backends._torch.tracing.labels import Features, StackedStates
from l0gate.backends._torch.tracing.rules.common import dimensions, on_features, pieces
from l0gate.backends._torch.tracing.tracer import Call, Trace


def identity(trace: Trace, call: Call) -> str | None:
    """`detach`, `contiguous`: the result has the label of its argument.

    On stacked states such a call works on all layers at once. All layers and directions are united,
    so that they can be stacked in the small model too.
    """
    label, given = call.labels.get(0), call.given[0]
    if label is not None and trace.features_from(label) is not None:
        trace.label(call.out, label)
    if id(given) in trace.states:
        trace.states[id(call.out)] = call.out
    return None


@on_features
def cast(trace: Trace, call: Call) -> str | None:
    """`to`, `type`: the result has the label of x; in `x.to(other)`, `other` has no effect."""
    if call.features is not None:
        trace.label(call.out, call.features)
    return None


def squeeze(trace: Trace, call: Call) -> str | None:
    """`squeeze` and `unsqueeze`.

    Stacked states stay stacked if the dimension lies between their first and their last. If their
    first dimension, of size 1, is squeezed, the result is the state of a single layer.
    """
    label, dim = call.labels.get(0), call.argument(1, "dim")
    if isinstance(label, StackedStates) and isinstance(dim, int):
        count = call.given[0].dim() + (call.name == "unsqueeze")
        if 0 < dim % count < count - 1:
            trace.label(call.out, label)
            return None
        if call.name == "squeeze" and dim % count == 0 and len(label.parts) == 1:
            trace.label(call.out, Features(-1, label.parts[0]))
            return None
    return reshape(trace, call)


@on_features
def reshape(trace: Trace, call: Call) -> str | None:
    """`reshape`, `view`, `flatten`: followed if the neurons' dimension is found in the result.

    That is the dimension of the same size for which the dimensions after it hold as many elements
    as before. The neurons' dimension may also be split into equal pieces, such as two directions,
    or merged with dimensions before it. A merged dimension repeats the neurons' blocks.
    """
    features = call.features
    if features is None or call.out.dtype != call.given[0].dtype:
        return call.name
    shape, out = call.given[0].shape, call.out.shape
    size, behind = shape[features.dim], shape[features.dim :].numel()
    for dim in range(-1, -len(out) - 1, -1):
        if out[dim] == size and out[dim:].numel() == behind:
            trace.label(call.out, Features(dim, features.parts))
            return None
    # Split: (..., n h) to (..., n, h).
    for dim in range(-1, -len(out), -1):
        if out[dim - 1] * out[dim] == size and out[dim - 1 :].numel() == behind:
            found = pieces(trace, features, out[dim - 1])
            if found is not None:
                trace.label(call.out, Features(dim, found[0]))
                return None
    # Merged: (..., n, h) to (..., n h).
    before = [shape[i:].numel() for i in range(len(shape) + features.dim)]
    for dim in range(-1, -len(out) - 1, -1):
        tail = out[dim:].numel()
        if tail in before and tail * size == out[dim] * behind:
            trace.label(call.out, Features(dim, features.parts * (tail // behind)))
            return None
    # Merged with dimensions behind it: (..., h, n) to (..., h n).
    for dim in range(-1, -len(out) - 1, -1):
        if out[dim] > size and out[dim] % size == 0 and out[dim:].numel() == behind:
            times = out[dim] // size
            parts = tuple((axis, count * times) for axis, count in features.parts)
            trace.label(call.out, Features(dim, parts))
            return None
    return f"{call.name}, which merges or splits their dimension"


@on_features
def permute(trace: Trace, call: Call) -> str | None:
    """`permute`, `transpose`, `movedim`, `t`, `mT`: the dimensions in another order."""
    features = call.features
    if features is None:
        return call.name
    count = call.given[0].dim()
    order = list(range(count))
    if call.name == "permute":
        order = [dim % count for dim in dimensions(call, 1)]
    elif call.name in ("movedim", "moveaxis"):
        source, target = call.argument(1, "source"), call.argument(2, "destination")
        if not isinstance(source, int):
            return call.name
        order.insert(target % count, order.pop(source % count))
    else:
        last_two = call.name == "mT.get" or (call.name in ("t", "T.get") and count == 2)
        a, b = (-2, -1) if last_two else (call.argument(1, "dim0"), call.argument(2, "dim1"))
        if a is None:
            return call.name
        order[a], order[b] = order[b], order[a]
    trace.label(call.out, Features(order.index(features.dim + count) - count, features.parts))
    return None


@on_features
def pad(trace: Trace, call: Call) -> str | None:
    """`pad`: followed along other dimensions than the neurons'."""
    label, sizes = call.features, call.argument(1, "pad")
    if label is None or any(sizes[-2 * label.dim - 2 : -2 * label.dim]):
        return "pad along their own dimension"
    trace.label(call.out, label)
    return None


@on_features
def repeat(trace: Trace, call: Call) -> str | None:
    """`repeat` and `tile`: along the neurons' dimension, its parts are repeated."""
    label, times = call.features, dimensions(call, 1, "repeats" if call.name == "repeat" else "")
    if label is None or not all(isinstance(n, int) for n in times):
        return call.name
    again = times[label.dim] if len(times) >= -label.dim else 1
    trace.label(call.out, Features(label.dim, label.parts * again))
    return None


def new_tensor(trace: Trace, call: Call) -> str | None:
    """`x.new_tensor(data)`: uses dtype and device of x. Not followed if data is a tensor."""
    return "new_tensor" if isinstance(call.argument(1, "data"), Tensor) else None


@on_features
def packing(trace: Trace, call: Call) -> str | None:
    """The functions that `pack_padded_sequence` and `pad_packed_sequence` call."""
    features = call.features
    if features is None or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out[0], features)
    return None
