"""Layers with parameters that are not recurrent: `embedding`, `linear`, convolutions, `batch_norm`.

A layer reads neurons, writes them, or both.
"""

from __future__ import annotations

from l0gate.backends._torch.tracing.labels import Axis, Features, Parts, Use, unpruned
from l0gate.backends._torch.tracing.tracer import Call, Trace

#: Part of a reason: the tensor is not a parameter itself, but computed from some.
COMPUTED = "is computed, as by weight_norm or a parametrization, so gates cannot be folded into it"


def embedding(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """`embedding`: the columns of the table become the neurons of the result, as a new axis.

    How the index was computed does not matter.
    """
    weight = call.argument(1, "weight")
    name = trace.names.get(id(weight))
    if name is None:  # a computed table: its columns get no axis
        return frozenset()
    rows, size = weight.shape
    written: Parts = ((trace.axes.setdefault((name, 1), Axis(size)), size),)
    trace.record_use(name, Use("{0} -> {1}", (unpruned(rows), written), lookup=True))
    trace.label(call.out, Features(-1, written))
    trace.layers.append({"type": "embedding", "name": name.removesuffix(".weight")})
    frozen = frozenset[Axis]()
    index = trace.label_of(call.argument(0, "input"))
    if index is not None:
        frozen |= trace.freeze_in([index], "an index into an embedding table")
    if call.argument(3, "max_norm") is not None:
        reason = f"{trace.where()} has max_norm, a norm over all neurons"
        frozen |= trace.freeze([Features(-1, written)], reason)
    return frozen


def linear(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    return _dense(trace, call, -1, "{0} <- {1}", "linear")


def conv1d(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """`conv1d`: reads the input channels and writes the output channels, both in dimension -2.

    Calls with groups are not followed.
    """
    groups = call.argument(6, "groups", 1)
    if groups == 1:
        return _dense(trace, call, -2, "{0} <- {1} {2}", "conv1d")
    how = f"conv1d with groups={groups}, which assigns channels to groups by their position"
    return trace.freeze_in(call.labels.values(), how)


def conv2d(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """Reads and writes channels, in dimension -3. Calls with groups are not followed."""
    groups = call.argument(6, "groups", 1)
    if groups == 1:
        return _dense(trace, call, -3, "{0} <- {1} {2} {3}", "conv2d")
    how = f"conv2d with groups={groups}, which assigns channels to groups by their position"
    return trace.freeze_in(call.labels.values(), how)


def _dense(trace: Trace, call: Call, dim: int, form: str, kind: str) -> frozenset[Axis]:
    """A layer with a weight (out, in, ...) and perhaps a bias (out,).

    It reads neurons in dimension `dim` of its input and writes others in dimension `dim` of its
    result.
    """
    x, weight, bias = (call.argument(i, n) for i, n in enumerate(("input", "weight", "bias")))
    name, bias_name = trace.names.get(id(weight)), trace.names.get(id(bias))
    size = len(weight)
    label = trace.label_of(x)
    if name is None or (bias is not None and bias_name is None):
        labels = [] if label is None else [label]
        return trace.freeze_in(labels, f"{kind}, with a weight that {COMPUTED}{trace.way_round()}")
    features = None if label is None else trace.features_from(label)
    if label is not None and (features is None or features.dim != dim):
        which = {-1: "the last", -2: "the last but one", -3: "the third last"}[dim]
        return trace.freeze_in([label], f"{kind}, but not in {which} dimension, which it reads")
    read: Parts = trace.read_unlabelled(x, dim) if features is None else features.parts
    # A single neuron gets no axis: every axis keeps at least one, so it could not be pruned.
    axis = trace.axes.setdefault((name, 0), Axis(size)) if size > 1 else None
    written: Parts = ((axis, size),)
    further: tuple[Parts, ...] = tuple(unpruned(n) for n in weight.shape[2:])
    trace.record_use(name, Use(form, (written, read, *further)))
    if bias_name is not None:
        trace.record_use(bias_name, Use("{0}", (written,)))
    if axis is not None:
        trace.label(call.out, Features(dim, written))
    trace.layers.append(
        {"type": kind, "name": name.removesuffix(".weight"), "bias": bias is not None}
    )
    return frozenset()


def batch_norm(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """`batch_norm`: weight, bias and running statistics are pruned together with their channels."""
    x = call.argument(0, "input")
    label = trace.label_of(x)
    own = [
        call.argument(i, n)
        for i, n in enumerate(("running_mean", "running_var", "weight", "bias"), start=1)
    ]
    names = [None if t is None else trace.names.get(id(t), "") for t in own]
    trace.layers.append({"type": "batch_norm"})
    if label is None:
        return untracked
    features = trace.features_from(label)
    if features is None or features.dim != 1 - x.dim():
        return trace.freeze_in([label], "batch_norm over another dimension")
    if own[0] is None:
        reason = f"{trace.where()} keeps no running statistics, so its output depends on the batch"
        return trace.freeze([label], reason)
    if "" in names:
        return trace.freeze_in([label], f"batch_norm, with a tensor that {COMPUTED}")
    for name in names:
        if name:
            trace.record_use(name, Use("{0}", (features.parts,)))
    trace.label(call.out, features)
    return untracked
