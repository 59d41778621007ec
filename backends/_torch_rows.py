"""Calls that only pass neurons on, and where that leaves them.

A row labels `call.out` and returns None, or returns why it cannot, to follow "reads it in".
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from l0gate.backends._torch_follow import (
    Axis,
    Call,
    Features,
    Label,
    Parts,
    Role,
    Row,
    States,
    Trace,
    axes_of,
)


def _flat(row: Row) -> Row:
    """Stacked states become features first: all layers and directions lose the same neurons."""

    def flattened(trace: Trace, call: Call) -> str | None:
        for i, label in call.labels.items():
            features = trace.flat(label)
            if features is None:
                return f"{call.name} of stacked states"
            call.labels[i] = features
        return row(trace, call)

    return flattened


def _elementwise(trace: Trace, call: Call) -> str | None:
    """Neurons that meet become the same; what they meet else must be alike for all of them."""
    if not isinstance(call.out, Tensor):
        return call.name
    met: Features | None = None
    lone: list[Label] = []  # one number for all neurons, such as a score
    for i, label in call.labels.items():
        assert isinstance(label, Features)
        dim, given = label.dim, call.given[i]
        if given.shape[dim] == 1 and call.out.dim() >= -dim and call.out.shape[dim] != 1:
            lone.append(label)
        elif met is None:
            met = label
        elif met.dim != dim:
            return f"{call.name}, where it meets other neurons in another dimension"
        else:
            reason = f"{trace.where()} reads it in {call.name}, where it meets other neurons"
            parts = trace.meet(met.parts, label.parts, reason)
            if parts is None:
                return f"{call.name}, where it meets other neurons"
            met = Features(dim, parts)
    if lone:
        trace.need(lone, f"{trace.where()} reads it in {call.name}, for all neurons at once")
    if met is None:
        return None
    for i, tensor in enumerate(call.given):
        if i in call.labels or tensor.dim() < -met.dim or _alike(tensor, met.dim):
            continue
        name = trace.names.get(id(tensor))
        if name is None:
            return f"{call.name}, where it meets a tensor of full width without named neurons"
        sizes: list[Parts] = [((None, n),) for n in tensor.shape]
        sizes[met.dim] = met.parts
        form = " ".join(f"{{{k}}}" for k in range(len(sizes)))
        trace.role(name, Role(form, tuple(sizes)))
    trace.label(call.out, met)
    return None


def _alike(tensor: Tensor, dim: int) -> bool:
    """Whether it has one value for all positions of the dimension."""
    strided = tensor.layout == torch.strided
    return tensor.shape[dim] == 1 or (strided and tensor.stride(dim) == 0)


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


def _prelu(trace: Trace, call: Call) -> str | None:
    if call.argument(1, "weight").numel() == 1:
        return _elementwise(trace, call)
    return "prelu with a slope for each channel"


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
    return _flat(_reshaped)(trace, call)


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
        if any(not _alike(t, label.dim) for t in call.given[1:] if t.dim() == count):
            return f"{call.name}, whose index differs from neuron to neuron"
        for out in tensors_of(call.out):
            trace.label(out, label)
        return None

    return _flat(row)


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


def _reduced(trace: Trace, call: Call) -> str | None:
    """`mean`, `max` and so on over other dimensions, such as time."""
    label, given = call.features, call.args[0] if call.args else call.given[0]
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if isinstance(dims, Tensor):
        return _elementwise(trace, call)
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


def _dimensions(call: Call, position: int, name: str = "dims") -> tuple[Any, ...]:
    """Dimensions given as `dims`, as a tuple, or one after the other."""
    given = call.kwargs.get(name, call.args[position:])
    if isinstance(given, (tuple, list)) and len(given) == 1:
        (given,) = given
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


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


def _joined(trace: Trace, call: Call) -> str | None:
    """`cat`: along the neurons' dimension their axes stand side by side."""
    labels = [call.labels.get(i) for i in range(len(call.given))]
    features = [label for label in labels if isinstance(label, Features)]
    dims = {label.dim for label in features}
    if len(dims) != 1:
        return f"{call.name} of different kinds of tensors"
    (dim,) = dims
    count = call.out.dim()
    if call.argument(1, "dim", call.kwargs.get("axis", 0)) % count - count != dim:
        return _united(trace, call, dim, dim)
    parts: list[tuple[Axis | None, int]] = []
    for label, tensor in zip(labels, call.given, strict=True):
        parts += label.parts if isinstance(label, Features) else ((None, tensor.shape[dim]),)
    trace.label(call.out, Features(dim, tuple(parts)))
    return None


def _stacked(trace: Trace, call: Call) -> str | None:
    """`stack`: the same neurons at every place along a new dimension."""
    dims = {label.dim for label in call.labels.values() if isinstance(label, Features)}
    if len(dims) != 1:
        return f"{call.name} of different kinds of tensors"
    (dim,) = dims
    count = call.out.dim()
    new, old = call.argument(1, "dim", 0) % count, dim + count - 1
    return _united(trace, call, dim, dim - (new > old))


def _united(trace: Trace, call: Call, dim: int, dim_out: int) -> str | None:
    """All tensors, one beside the other in another dimension, carry the same neurons."""
    met: Parts | None = None
    for i, tensor in enumerate(call.given):
        label = call.labels.get(i)
        if label is None and _alike(tensor, dim):
            continue  # zeros expanded, say
        if not isinstance(label, Features):
            return f"{call.name}, where it meets a tensor without named neurons"
        reason = f"{trace.where()} reads it in {call.name}, where it meets other neurons"
        met = label.parts if met is None else trace.meet(met, label.parts, reason)
        if met is None:
            return f"{call.name}, where it meets other neurons"
    assert met is not None
    trace.label(call.out, Features(dim_out, met))
    return None


def _packed(trace: Trace, call: Call) -> str | None:
    features = call.features
    if features is None or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out[0], features)
    return None


def _pad_sequence(trace: Trace, call: Call) -> str | None:
    dims = {label.dim for label in call.labels.values() if isinstance(label, Features)}
    if dims != {-1} or any(tensor.dim() < 2 for tensor in call.given):
        return f"{call.name} of different kinds of tensors"
    return _united(trace, call, -1, -1)


# Products of matrices -------------------------------------------------------------------------


def _matmul(trace: Trace, call: Call) -> str | None:
    """`a @ b`: weights over time keep the neurons of b, or of a; a parameter b reads those of a."""
    a, b = call.given[:2]
    if call.name == "rmatmul":
        a, b = b, a
    own, other = (trace.label_of(t) for t in (a, b))
    left, right = (label if label is None else trace.flat(label) for label in (own, other))
    products = f"{call.name}, a dot product over neurons"
    if left is not None and right is not None:
        if left.dim != -2 or right.dim != -1:
            return products
        # A result of neurons by neurons: only one kind of them can be followed.
        if _feed_forward(left):
            trace.need([left], f"{trace.where()} reads it in {call.name}, with other neurons")
            left = None
        elif _feed_forward(right):
            trace.need([right], f"{trace.where()} reads it in {call.name}, with other neurons")
            right = None
        else:
            return f"{call.name}, which multiplies neurons by other neurons"
    if left is not None:
        name = trace.names.get(id(b))
        if left.dim == -1 and name is not None and b.dim() == 2:
            columns = b.shape[1]
            written: Parts = ((trace.axes.setdefault((name, 1), Axis(columns)), columns),)
            trace.role(name, Role("{0} -> {1}", (left.parts, written)))
            trace.label(call.out, Features(-1, written))
            return None
        if left.dim != -2:
            return products
        if b.dim() == 1:  # (..., h, t) @ t
            trace.label(call.out, Features(-1, left.parts))
        else:
            trace.label(call.out, left)
        return None
    if right is None or right.dim != -1 or b.dim() < 2:
        return products
    trace.label(call.out, right)
    return None


def _feed_forward(label: Features) -> bool:
    """Whether its neurons have no gates of their own, unless a recurrent layer reads them."""
    return not any(axis.name for axis in axes_of(label))


def _einsum(trace: Trace, call: Call) -> str | None:
    """The letter of the neurons must stand in the result, and nowhere on unnamed numbers."""
    equation = call.args[0]
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return "einsum, whose equation is not written out"
    source, target = equation.replace(" ", "").split("->")
    operands = source.split(",")
    found: dict[str, Parts] = {}
    for i in call.labels:
        label = call.features_of(i)
        assert label is not None
        letter = operands[i][label.dim]
        if letter not in target:
            return "einsum, which sums over its neurons"
        reason = f"{trace.where()} reads it in einsum, where it meets other neurons"
        met = trace.meet(found[letter], label.parts, reason) if letter in found else label.parts
        if met is None:
            return "einsum, where it meets other neurons"
        found[letter] = met
    lesser = [own for own, parts in found.items() if _feed_forward(Features(-1, parts))]
    for letter in lesser[: len(found) - 1]:
        label = Features(-1, found.pop(letter))
        trace.need([label], f"{trace.where()} reads it in einsum, with other neurons")
    if len(found) != 1:
        return "einsum, which multiplies neurons by other neurons"
    ((letter, parts),) = found.items()
    for i, operand in enumerate(operands):
        own = call.features_of(i)
        if letter in operand and (own is None or operand[own.dim] != letter):
            return "einsum, where it meets a tensor of full width without named neurons"
    if any(operand.count(letter) > 1 for operand in [*operands, target]):
        return "einsum, which takes its neurons twice"
    trace.label(call.out, Features(target.index(letter) - len(target), parts))
    return None


def _attention(trace: Trace, call: Call) -> str | None:
    """`scaled_dot_product_attention`: queries and keys are multiplied, values are summed."""
    query, key, value = (call.argument(i, n) for i, n in enumerate(("query", "key", "value")))
    labels = [trace.label_of(t) for t in (query, key)]
    reason = f"{trace.where()} reads it in {call.name}, a dot product over neurons"
    trace.need([label for label in labels if label is not None], reason)
    features = trace.label_of(value)
    if features is None:
        return None
    if not isinstance(features, Features) or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out, features)
    return None


def _normed(trace: Trace, call: Call) -> str | None:
    return f"{call.name}, a norm over all neurons"


def tensors_of(out: Any) -> list[Tensor]:
    """The tensors that a call returned, in one or several."""
    return [out] if isinstance(out, Tensor) else [t for t in out if isinstance(t, Tensor)]


_ELEMENTWISE = (
    "abs add addcdiv addcmul alpha_dropout bfloat16 celu clamp clamp_max clamp_min clip clone"
    " copy cos cpu cuda div double dropout dropout1d elu empty_like eq"
    " erf exp expand expand_as expm1 feature_alpha_dropout fill float floor floor_divide fmod"
    " full_like ge gelu gt half hardshrink hardsigmoid hardswish hardtanh le leaky_relu lerp log"
    " log1p logical_and logical_not logical_or logsigmoid lt masked_fill maximum minimum mish mul"
    " nan_to_num ne neg negative ones_like pow radd reciprocal relu relu6 remainder rmul round rpow"
    " rrelu rsqrt rsub rtruediv selu sigmoid sign silu sin softplus softshrink softsign sqrt square"
    " sub subtract multiply divide tanh tanhshrink threshold true_divide truediv bool int long"
    " where zero zeros_like iadd imul isub itruediv"
)
_REDUCED = "all amax amin any logsumexp max mean median min nanmean nansum prod std sum var"
_POOLED = (
    "adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d lp_pool1d max_pool1d"
    " max_pool1d_with_indices"
)
FOLLOWED: dict[str, Row] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _flat(_elementwise)),
    **dict.fromkeys(("contiguous", "data.get", "detach"), _same),
    **dict.fromkeys(("to", "type", "type_as"), _flat(_cast)),
    "prelu": _flat(_prelu),
    **dict.fromkeys(("flatten", "reshape", "unflatten", "view"), _flat(_reshaped)),
    **dict.fromkeys(
        (
            *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
            *("t", "T.get", "mT.get"),
        ),
        _flat(_permuted),
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
    "narrow": _flat(_narrowed),
    **dict.fromkeys(("chunk", "tensor_split", "split"), _chunked),
    "repeat_interleave": _along(2),
    **dict.fromkeys(_REDUCED.split(), _flat(_reduced)),
    **dict.fromkeys(_POOLED.split(), _flat(_pooled)),
    "pad": _flat(_padded),
    **dict.fromkeys(("repeat", "tile"), _flat(_repeated)),
    **dict.fromkeys(("cat", "concat", "concatenate"), _flat(_joined)),
    "stack": _flat(_stacked),
    "pad_sequence": _flat(_pad_sequence),
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), _flat(_packed)),
    **dict.fromkeys(("matmul", "mm", "bmm", "rmatmul"), _matmul),
    "einsum": _flat(_einsum),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("group_norm", "layer_norm", "rms_norm", "normalize", "norm"), _normed),
}
CHAIN_ACTIVATIONS = frozenset({"tanh", "sigmoid", "relu"})
# Calls that read sizes and kinds, but no values.
_QUERIES = (
    "_version.get data_ptr device.get dim dtype.get element_size format get_device grad.get"
    " grad_fn.get"
    " itemsize.get layout.get len ndim.get ndimension nelement new_empty new_full new_ones"
    " new_zeros numel repr requires_grad requires_grad.get shape.get size"
    " storage_offset stride"
)
QUERIES = frozenset(_QUERIES.split())
