"""Calls that move neurons or take some dimensions away, without letting them meet others.

A row labels `call.out` and returns None, or returns why it cannot, to follow "reads it in".
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from l0gate.backends._torch.tracing.tracer import Call, Features, Parts, Row, States, Trace


def flat(row: Row) -> Row:
    """Stacked states become features first: all layers and directions lose the same neurons."""

    def flattened(trace: Trace, call: Call) -> str | None:
        for i, label in call.labels.items():
            features = trace.flat(label)
            if features is None:
                return f"{call.name} of stacked states"
            call.labels[i] = features
        return row(trace, call)

    return flattened


def alike(tensor: Tensor, dim: int) -> bool:
    """Whether it has one value for all positions of the dimension."""
    strided = tensor.layout == torch.strided
    return tensor.shape[dim] == 1 or (strided and tensor.stride(dim) == 0)


def tensors_of(out: Any) -> list[Tensor]:
    """The tensors that a call returned, in one or several."""
    return [out] if isinstance(out, Tensor) else [t for t in out if isinstance(t, Tensor)]


def _same(trace: Trace, call: Call) -> str | None:
    """`detach` and so on: states stay states, but what works on all layers needs one size."""
    label, given = call.labels.get(0), call.given[0]
    if label is not None and trace.flat(label) is not None:
        trace.label(call.out, label)
    if id(given) in trace.states:
        trace.states[id(call.out)] = call.out
    return None


def _cast(trace: Trace, call: Call) -> str | None:
    """Of `x.to(other)` only x is passed on."""
    if call.features is not None:
        trace.label(call.out, call.features)
    return None


def _squeezed(trace: Trace, call: Call) -> str | None:
    """`squeeze` and `unsqueeze`: stacked states keep their first and last dimension, or are one."""
    label, dim = call.labels.get(0), call.argument(1, "dim")
    if isinstance(label, States) and isinstance(dim, int):
        count = call.given[0].dim() + (call.name == "unsqueeze")
        if 0 < dim % count < count - 1:
            trace.label(call.out, label)
            return None
        if call.name == "squeeze" and dim % count == 0 and len(label.parts) == 1:
            trace.label(call.out, Features(-1, label.parts[0]))
            return None
    return flat(_reshaped)(trace, call)


def _reshaped(trace: Trace, call: Call) -> str | None:
    """The dimension survives, with as many numbers behind it, or others before it join it."""
    features = call.features
    if features is None or call.out.dtype != call.given[0].dtype:
        return call.name
    shape, out = call.given[0].shape, call.out.shape
    size, behind = shape[features.dim], shape[features.dim :].numel()
    for dim in range(-1, -len(out) - 1, -1):
        if out[dim] == size and out[dim:].numel() == behind:
            trace.label(call.out, Features(dim, features.parts))
            return None
    # (..., n h) to (..., n, h), such as the two directions.
    for dim in range(-1, -len(out), -1):
        if out[dim - 1] * out[dim] == size and out[dim - 1 :].numel() == behind:
            pieces = _pieces(trace, features, out[dim - 1])
            if pieces is not None:
                trace.label(call.out, Features(dim, pieces[0]))
                return None
    # (..., n, h) to (..., n h): the neurons n times, side by side.
    before = [shape[i:].numel() for i in range(len(shape) + features.dim)]
    for dim in range(-1, -len(out) - 1, -1):
        tail = out[dim:].numel()
        if tail in before and tail * size == out[dim] * behind:
            trace.label(call.out, Features(dim, features.parts * (tail // behind)))
            return None
    return f"{call.name}, which merges or splits the neurons' dimension"


def _permuted(trace: Trace, call: Call) -> str | None:
    features = call.features
    if features is None:
        return call.name
    count = call.given[0].dim()
    order = list(range(count))
    if call.name == "permute":
        order = [dim % count for dim in _dimensions(call, 1)]
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


def _dimensions(call: Call, position: int, name: str = "dims") -> tuple[Any, ...]:
    """Dimensions given as `dims`, as a tuple, or one after the other."""
    given = call.kwargs.get(name, call.args[position:])
    if isinstance(given, (tuple, list)) and len(given) == 1:
        (given,) = given
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _indexed(trace: Trace, call: Call) -> str | None:
    """`x[...]`: the neurons' dimension is taken whole; of stacked states, one by its number."""
    tensor, index = call.args
    label = trace.label_of(tensor)
    if isinstance(label, States):
        if isinstance(index, int) and not isinstance(index, bool):
            trace.label(call.out, Features(-1, label.parts[index]))
            return None
        label = trace.flat(label)
    if label is None:
        return "an index"
    items = list(index) if isinstance(index, tuple) else [index]
    taken = [0 if i is None else i.dim() if _is_mask(i) else 1 for i in items if i is not ...]
    missing = [slice(None)] * (tensor.dim() - sum(taken))
    place = next((k for k, i in enumerate(items) if i is ...), len(items))
    items[place : place + 1] = missing
    dim, at = label.dim + tensor.dim(), 0
    for k, item in enumerate(items):
        span = 0 if item is None else item.dim() if _is_mask(item) else 1
        if at <= dim < at + span:
            rest = items[k + 1 :]
            parts = None
            if isinstance(item, slice) and all(
                i is None or isinstance(i, (int, slice)) for i in rest
            ):
                parts = _taken(trace, label, item)
            if parts is None:
                return "an index that takes some of its neurons, or moves them"
            behind = sum(not isinstance(i, int) for i in rest)
            trace.label(call.out, Features(-1 - behind, parts))
            return None
        at += span
    raise AssertionError("an index reaches every dimension")


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8)


def _along(
    position: int, name: str = "dim", *, several: bool = False, default: int | None = None
) -> Row:
    """A row for calls that work along the dimension in that argument and keep all dimensions."""

    def row(trace: Trace, call: Call) -> str | None:
        label = call.features
        dims = (call.argument(position, name, default),)
        if several:
            dims = _dimensions(call, position, name)
        if label is None or not dims or not all(isinstance(d, int) for d in dims):
            return f"{call.name} over all dimensions, or without the first argument"
        count = call.given[0].dim()
        if any(d % count - count == label.dim for d in dims):
            return f"{call.name} along the neurons' own dimension"
        if any(not alike(t, label.dim) for t in call.given[1:] if t.dim() == count):
            return f"{call.name}, whose index differs from neuron to neuron"
        for out in tensors_of(call.out):
            trace.label(out, label)
        return None

    return flat(row)


def _chunked(trace: Trace, call: Call) -> str | None:
    """`chunk`: where it cuts between axes, such as those of two directions, they become one."""
    label = trace.flat(call.labels[0]) if 0 in call.labels else None
    dim, count = call.argument(2, "dim", 0), call.given[0].dim()
    if label is None or dim % count - count != label.dim or not isinstance(call.out, tuple):
        return _along(2, default=0)(trace, call)
    pieces = _pieces(trace, label, len(call.out))
    if pieces is None:
        return f"{call.name} along the neurons' own dimension"
    for out, piece in zip(call.out, pieces, strict=True):
        trace.label(out, Features(label.dim, piece))
    return None


def _taken(trace: Trace, label: Features, cut: slice) -> Parts | None:
    """What a slice takes, if that is one piece: all neurons, those of a direction, or the features
    before or behind them.

    Where it cuts between axes of one size they become one, so that code which knows their size
    finds the place in the small model too.
    """
    parts = label.parts
    bounds = list(accumulate((size for _, size in parts), initial=0))
    start, stop, step = cut.indices(bounds[-1])
    if step != 1 or start not in bounds or stop not in bounds:
        return None
    first, last = bounds.index(start), bounds.index(stop)
    fixed = [axis is None for axis, _ in parts]
    if all(fixed[:first]) and (last == len(parts) or all(fixed[:last])):
        return parts[first:last]
    each = last - first
    if each < 1 or first % each or len(parts) % each:
        return None
    pieces = _pieces(trace, label, len(parts) // each)
    return None if pieces is None else pieces[first // each]


def _pieces(trace: Trace, label: Features, count: int) -> list[Parts] | None:
    """The neurons in that many pieces, if these are alike, such as the two directions.

    They become the same neurons then.
    """
    each, over = divmod(len(label.parts), count)
    groups = [label.parts[i : i + each] for i in range(0, len(label.parts), each or 1)]
    if over or not each or len({tuple(size for _, size in group) for group in groups}) > 1:
        return None
    reason = f"{trace.where()} takes the neurons in pieces"
    met: Parts | None = groups[0]
    for group in groups[1:]:
        met = met if met is None else trace.meet(met, group, reason)
    return [met or ()] * len(groups)


def _narrowed(trace: Trace, call: Call) -> str | None:
    """`narrow`: a slice in one dimension."""
    label, (dim, start, length) = (
        call.features,
        (call.argument(i, name) for i, name in enumerate(("dim", "start", "length"), start=1)),
    )
    count = call.given[0].dim()
    numbers = all(isinstance(number, int) for number in (dim, start, length))
    if label is None or not numbers or dim % count - count != label.dim:
        return _along(1)(trace, call)
    parts = _taken(trace, label, slice(start, start + length))
    if parts is None:
        return "narrow along the neurons' own dimension"
    trace.label(call.out, Features(label.dim, parts))
    return None


def _selected(trace: Trace, call: Call) -> str | None:
    """`index_select`: a recurrent module itself orders its states so, for packed sequences."""
    label = call.labels.get(0)
    inside = isinstance(trace.model.get_submodule(trace.path[-1]), nn.RNNBase)
    if isinstance(label, States) and inside and call.argument(1, "dim") == 1:
        trace.label(call.out, label)
        return None
    return _along(1)(trace, call)


def reduced(trace: Trace, call: Call) -> str | None:
    """`mean`, `max` and so on over other dimensions, such as time."""
    label, given = call.features, call.args[0] if call.args else call.given[0]
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if label is None or dims is None or isinstance(dims, bool):
        return f"{call.name} over all dimensions, its own among them"
    count = given.dim()
    gone = {d % count - count for d in (dims if isinstance(dims, (tuple, list)) else (dims,))}
    if not gone or label.dim in gone:
        return f"{call.name} along the neurons' own dimension"
    for out in tensors_of(call.out):
        dim = label.dim if out.dim() == count else label.dim + sum(d > label.dim for d in gone)
        trace.label(out, Features(dim, label.parts))
    return None


def _pooled(trace: Trace, call: Call) -> str | None:
    """Pooling over the last dimension of (B, C, T)."""
    label = call.features
    if label is None or label.dim == -1:
        return f"{call.name} along the neurons' own dimension"
    for out in tensors_of(call.out):
        trace.label(out, label)
    return None


def _padded(trace: Trace, call: Call) -> str | None:
    label, sizes = call.features, call.argument(1, "pad")
    if label is None or any(sizes[-2 * label.dim - 2 : -2 * label.dim]):
        return "pad along the neurons' own dimension"
    trace.label(call.out, label)
    return None


def _repeated(trace: Trace, call: Call) -> str | None:
    """`repeat` and `tile`: along their own dimension, the neurons stand side by side again."""
    label, times = call.features, _dimensions(call, 1, "repeats" if call.name == "repeat" else "")
    if label is None or not all(isinstance(n, int) for n in times):
        return call.name
    again = times[label.dim] if len(times) >= -label.dim else 1
    trace.label(call.out, Features(label.dim, label.parts * again))
    return None


def _new_tensor(trace: Trace, call: Call) -> str | None:
    """Only its kind is taken from the first tensor; a second one would be copied."""
    return "new_tensor" if isinstance(call.argument(1, "data"), Tensor) else None


def _separated(trace: Trace, call: Call) -> str | None:
    """`unbind` and `select`: one dimension goes."""
    tensor, dim = call.given[0], call.argument(1, "dim", 0)
    label = trace.label_of(tensor)
    if isinstance(label, States):
        if call.name == "unbind" and dim == 0:
            for part, out in zip(label.parts, call.out, strict=True):
                trace.label(out, Features(-1, part))
            return None
        label = trace.flat(label)
    if label is None or (gone := dim % tensor.dim() - tensor.dim()) == label.dim:
        return f"{call.name} along the neurons' own dimension"
    for out in tensors_of(call.out):
        trace.label(out, Features(label.dim + (gone > label.dim), label.parts))
    return None


def _packed(trace: Trace, call: Call) -> str | None:
    features = call.features
    if features is None or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out[0], features)
    return None


_REDUCED = "all amax amin any logsumexp mean median nanmean nansum prod std sum var"
_POOLED = (
    "adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d lp_pool1d max_pool1d"
    " max_pool1d_with_indices"
)
MOVED: dict[str, Row] = {
    **dict.fromkeys(("contiguous", "data.get", "detach"), _same),
    **dict.fromkeys(("to", "type", "type_as"), flat(_cast)),
    **dict.fromkeys(("flatten", "reshape", "unflatten", "view"), flat(_reshaped)),
    **dict.fromkeys(
        (
            *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
            *("t", "T.get", "mT.get"),
        ),
        flat(_permuted),
    ),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeezed),
    "getitem": _indexed,
    **dict.fromkeys(("unbind", "select"), _separated),
    "flip": _along(1, "dims", several=True),
    "roll": _along(2, "dims", several=True),
    "index_select": _selected,
    "new_tensor": _new_tensor,
    **dict.fromkeys(
        (
            *("gather", "take_along_dim"),
            *("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax", "softmin"),
        ),
        _along(1),
    ),
    "narrow": flat(_narrowed),
    **dict.fromkeys(("chunk", "tensor_split", "split"), _chunked),
    "repeat_interleave": _along(2),
    **dict.fromkeys(_REDUCED.split(), flat(reduced)),
    **dict.fromkeys(_POOLED.split(), flat(_pooled)),
    "pad": flat(_padded),
    **dict.fromkeys(("repeat", "tile"), flat(_repeated)),
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), flat(_packed)),
}
