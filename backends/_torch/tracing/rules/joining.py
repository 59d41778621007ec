"""`cat`, `stack` and `pad_sequence`: several tensors become one."""

from __future__ import annotations

from l0gate.backends._torch.tracing.labels import Axis, Features, Parts, unpruned
from l0gate.backends._torch.tracing.rules.common import (
    CANNOT_UNITE,
    on_features,
)
from l0gate.backends._torch.tracing.tracer import Call, Trace


@on_features
def concatenation(trace: Trace, call: Call) -> str | None:
    """`cat`: along the neurons' dimension, the result has the axes of all tensors in a row.

    Along another dimension, the neurons of all tensors are united.
    """
    labels = [call.labels.get(i) for i in range(len(call.given))]
    dims = _dims(call)
    if len(dims) != 1:
        return _different_dimensions(call)
    (dim,) = dims
    count = call.out.dim()
    if call.argument(1, "dim", call.kwargs.get("axis", 0)) % count - count != dim:
        return _same_neurons(trace, call, dim, dim)
    parts: list[tuple[Axis | None, int]] = []
    for label, tensor in zip(labels, call.given, strict=True):
        parts += label.parts if isinstance(label, Features) else unpruned(tensor.shape[dim])
    trace.label(call.out, Features(dim, tuple(parts)))
    return None


@on_features
def stack(trace: Trace, call: Call) -> str | None:
    """`stack` along a new dimension: the neurons of all tensors are united."""
    dims = _dims(call)
    if len(dims) != 1:
        return _different_dimensions(call)
    (dim,) = dims
    count = call.out.dim()
    new, old = call.argument(1, "dim", 0) % count, dim + count - 1
    return _same_neurons(trace, call, dim, dim - (new > old))


@on_features
def pad_sequence(trace: Trace, call: Call) -> str | None:
    """`pad_sequence` of tensors (T_i, ..., H): their neurons are united."""
    if _dims(call) != {-1} or any(tensor.dim() < 2 for tensor in call.given):
        return _different_dimensions(call)
    return _same_neurons(trace, call, -1, -1)


def _dims(call: Call) -> set[int]:
    """The dimensions (negative) in which the arguments have neurons."""
    return {label.dim for label in call.labels.values() if isinstance(label, Features)}


def _different_dimensions(call: Call) -> str:
    return f"{call.name} of tensors with neurons in different dimensions"


def _same_neurons(trace: Trace, call: Call, dim: int, dim_out: int) -> str | None:
    """Unite the neurons, in dimension `dim`, of tensors joined along another dimension.

    The result has them in dimension `dim_out`.
    """
    united: Parts | None = None
    others = []
    for i, tensor in enumerate(call.given):
        label = call.labels.get(i)
        if not isinstance(label, Features):
            others.append(tensor)
            continue
        how = f"{call.name}, {CANNOT_UNITE}"
        reason = f"{trace.where()} uses its neurons in {how}"
        united = label.parts if united is None else trace.unite_parts(united, label.parts, reason)
        if united is None:
            return how
    assert united is not None
    for tensor in others:
        constant = call.constant_along(tensor, dim)  # zeros, for example
        if not constant and not trace.record_unlabelled(tensor, dim, united):
            return f"{call.name}, together with a tensor that is not pruned along with them"
    trace.label(call.out, Features(dim_out, united))
    return None
