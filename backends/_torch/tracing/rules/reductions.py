"""Reductions: followed over other dimensions than the neurons', such as a mean over time."""

from __future__ import annotations

from l0gate.backends._torch.tracing.labels import Features, Use, unpruned
from l0gate.backends._torch.tracing.rules.common import on_features, tensors_of
from l0gate.backends._torch.tracing.tracer import Call, Trace


@on_features
def reduction(trace: Trace, call: Call) -> str | None:
    """`mean`, `sum`, `max` and so on over given dimensions."""
    label, given = call.features, call.args[0] if call.args else call.given[0]
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if label is None or dims is None or isinstance(dims, bool):
        return f"{call.name} over all dimensions, their own among them"
    count = given.dim()
    gone = {d % count - count for d in (dims if isinstance(dims, (tuple, list)) else (dims,))}
    if not gone or label.dim in gone:
        return f"{call.name} along their own dimension"
    for out in tensors_of(call.out):
        dim = label.dim if out.dim() == count else label.dim + sum(d > label.dim for d in gone)
        trace.label(out, Features(dim, label.parts))
    return None


@on_features
def pooling(trace: Trace, call: Call) -> str | None:
    """Pooling over the last dimension of (B, C, T), or the last two of (B, C, H, W)."""
    label = call.features
    if label is None or label.dim >= (-2 if "2d" in call.name else -1):
        return f"{call.name} along their own dimension"
    for out in tensors_of(call.out):
        trace.label(out, label)
    return None


def norm_over_neurons(trace: Trace, call: Call) -> str | None:
    """`layer_norm` and so on: not followed, because the mean and variance are taken over neurons.

    Removing a neuron would change both.
    """
    if call.name == "layer_norm":
        return (
            "layer_norm, a norm over all neurons; put `l0gate.backends.PrunableLayerNorm` in its"
            " place to prune them"
        )
    return f"{call.name}, a norm over all neurons"


@on_features
def prunable_norm(trace: Trace, call: Call) -> str | None:
    """`PrunableLayerNorm` reads the neurons through its scale, and passes them on."""
    label, (scale, weight, bias) = call.features, call.args[1:4]
    if label is None or label.dim != -1:
        return "a norm over another dimension"
    if trace.names.get(id(scale)) is None:
        return "a norm whose scale is no buffer of the model"
    trace.record_use(trace.names[id(scale)], Use("{0} <- {1}", (unpruned(1), label.parts)))
    for tensor in (weight, bias):
        if tensor is not None and not trace.record_unlabelled(tensor, -1, label.parts):
            return "a norm with computed weights"
    trace.label(call.out, label)
    return None
