"""Calls that use parameters: what writes neurons, and what reads them."""

from __future__ import annotations

from torch import Tensor, nn

from l0gate.backends._torch.pytree import tensors
from l0gate.backends._torch.tracing.tracer import (
    COMPUTED,
    Axis,
    Call,
    Features,
    Label,
    Parts,
    Role,
    RoleRow,
    States,
    Trace,
    axes_in,
    root,
)

BLOCKS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}  # gates in a weight


def _embedding(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    weight = call.argument(1, "weight")
    name = trace.names.get(id(weight))
    if name is None:  # a table that is computed; nothing is known of what it writes
        return frozenset()
    rows, size = weight.shape
    written: Parts = ((trace.axes.setdefault((name, 1), Axis(size)), size),)
    trace.role(name, Role("{0} -> {1}", (((None, rows),), written), lookup=True))
    trace.label(call.out, Features(-1, written))
    trace.layers.append({"type": "embedding", "name": name.removesuffix(".weight")})
    needed = frozenset[Axis]()
    index = trace.label_of(call.argument(0, "input"))
    if index is not None:
        needed |= trace.need([index], f"{trace.where()} looks up what depends on it")
    if call.argument(3, "max_norm") is not None:
        reason = f"{trace.where()} has max_norm, a norm over all neurons"
        needed |= trace.need([Features(-1, written)], reason)
    return needed


def _linear(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    return _reader(trace, call, -1, "{0} <- {1}", "linear")


def _conv1d(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    groups = call.argument(6, "groups", 1)
    if groups == 1:
        return _reader(trace, call, -2, "{0} <- {1} {2}", "conv1d")
    reason = (
        f"{trace.where()} reads it in conv1d with groups={groups}, which takes neurons by their"
        " number"
    )
    return trace.need(call.labels.values(), reason)


def _reader(trace: Trace, call: Call, dim: int, form: str, kind: str) -> frozenset[Axis]:
    """A weight (out, in, ...) that reads dimension `dim`, where it also writes, and its bias."""
    x, weight, bias = (call.argument(i, n) for i, n in enumerate(("input", "weight", "bias")))
    name, bias_name = trace.names.get(id(weight)), trace.names.get(id(bias))
    size, inputs = weight.shape[:2]
    label = trace.label_of(x)
    if name is None or (bias is not None and bias_name is None):
        labels = [] if label is None else [label]
        return trace.need(labels, f"{trace.where()} reads it with a weight that {COMPUTED}")
    features = None if label is None else trace.flat(label)
    if label is not None and (features is None or features.dim != dim):
        which = "the last" if dim == -1 else "the last but one"
        return trace.need([label], f"{trace.where()} reads it along another dimension than {which}")
    read: Parts = ((None, inputs),) if features is None else features.parts
    # One neuron has no gate: nothing of it could go.
    axis = trace.axes.setdefault((name, 0), Axis(size)) if size > 1 else None
    written: Parts = ((axis, size),)
    further: tuple[Parts, ...] = tuple(((None, n),) for n in weight.shape[2:])
    trace.role(name, Role(form, (written, read, *further)))
    if bias_name is not None:
        trace.role(bias_name, Role("{0}", (written,)))
    if axis is not None:
        trace.label(call.out, Features(dim, written))
    trace.layers.append(
        {"type": kind, "name": name.removesuffix(".weight"), "bias": bias is not None}
    )
    return frozenset()


def _batch_norm(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    """Scale, shift and statistics, by channel: all travel with the neurons."""
    x = call.argument(0, "input")
    label = trace.label_of(x)
    own = [
        call.argument(i, n)
        for i, n in enumerate(("running_mean", "running_var", "weight", "bias"), start=1)
    ]
    names = [None if t is None else trace.names.get(id(t), "") for t in own]
    trace.layers.append({"type": "batch_norm"})
    if label is None:
        return lost
    features = trace.flat(label)
    if features is None or features.dim != 1 - x.dim():
        return trace.need([label], f"{trace.where()} reads it in batch_norm over another dimension")
    if own[0] is None:
        reason = f"{trace.where()} keeps no running statistics, so it depends on the batch"
        return trace.need([label], reason)
    if "" in names:
        return trace.need([label], f"{trace.where()} reads it with a tensor that {COMPUTED}")
    for name in names:
        if name:
            trace.role(name, Role("{0}", (features.parts,)))
    trace.label(call.out, features)
    return lost


def _recurrent(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    """`torch.lstm`, `torch.gru` and `torch.rnn_tanh`, on padded or on packed input."""
    packed = isinstance(call.args[3], (list, tuple))
    x, (hx, weights, bias, layers, _, _, bidirectional) = (
        call.args[0],
        call.args[1 + packed : 8 + packed],
    )
    names = [trace.names.get(id(weight), "") for weight in weights]
    if "" in names:
        return _ungated(trace, call, f"has a weight that {COMPUTED}")
    if len(set(names)) < len(names):
        return _ungated(trace, call, "has one tensor for two of its weights")
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)  # w_ih, w_hh, two biases, a projection
    features, unread = _inputs(trace, x, lost)
    first = names[0] not in trace.roles
    hidden: list[Parts] = []
    carried: list[Parts] = []
    for layer in range(layers):
        written: list[tuple[Axis | None, int]] = []
        for direction in range(directions):
            start = (layer * directions + direction) * each
            own_names, own = names[start : start + each], weights[start : start + each]
            letter = "fb"[direction] if bidirectional else "h"
            h, c = _cell(trace, own_names, own, bias, features, letter, BLOCKS[call.name])
            written += h
            hidden.append(h)
            carried.append(c)
        features = tuple(written)
        trace.depth += first
    trace.label(call.out[0], Features(-1, features))
    for state, parts in zip(call.out[1:], (hidden, carried), strict=False):
        trace.label(state, States(tuple(parts)))
    for given, parts in zip(tensors(hx), (hidden, carried), strict=False):
        unread |= _initial(trace, given, parts)
    trace.layers.append(
        {
            "type": call.name,
            "name": names[0].rpartition(".")[0],
            "num_layers": layers,
            "bidirectional": bool(bidirectional),
            "bias": bool(bias),
        }
    )
    return unread


def _recurrent_cell(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    """`torch.lstm_cell`, `torch.gru_cell` and so on: one step of one layer."""
    x, hx, *weights = call.args
    own = [weight for weight in weights if weight is not None]
    names = [trace.names.get(id(weight), "") for weight in own]
    if "" in names:
        return _ungated(trace, call, f"has a weight that {COMPUTED}")
    features, unread = _inputs(trace, x, lost)
    first = names[0] not in trace.roles
    blocks = BLOCKS[call.name.removesuffix("_cell")]
    h, _ = _cell(trace, names, own, len(own) > 2, features, "h", blocks)
    trace.depth += first
    for state in tensors(call.out):
        trace.label(state, Features(-1, h))
    for given in tensors(hx):
        unread |= _initial(trace, given, [h])
    trace.layers.append({"type": call.name})
    return unread


def _inputs(trace: Trace, x: Tensor, lost: frozenset[Axis]) -> tuple[Parts, frozenset[Axis]]:
    """What a recurrent layer reads, and the axes that it needs whole."""
    label = trace.label_of(x)
    features = None if label is None else trace.flat(label)
    unread: frozenset[Axis] = frozenset()
    if label is not None and (features is None or features.dim != -1):
        unread = trace.need([label], f"{trace.where()} reads its last dimension, which is another")
        features = None
    parts: Parts = ((None, x.shape[-1]),) if features is None else features.parts
    for axis in axes_in(parts) if features is not None else map(root, lost):
        axis.depth = trace.depth if axis.depth is None else axis.depth
    return parts, unread


def _cell(
    trace: Trace,
    names: list[str],
    weights: list[Tensor],
    bias: bool,
    read: Parts,
    letter: str,
    blocks: int,
) -> tuple[Parts, Parts]:
    """The roles of one layer and direction; the neurons of its h and of its c."""
    size, fed = weights[1].shape[0] // blocks, weights[1].shape[1]
    own: Parts = (
        (trace.axes.setdefault((names[1], 0), Axis(size, f"{letter}{trace.depth}")), size),
    )
    back = own  # what is fed back, and returned as h
    projected = len(names) in (3, 5)
    if projected:
        prefix = "p" if letter == "h" else f"{letter}p"
        back = ((trace.axes.setdefault((names[-1], 0), Axis(fed, f"{prefix}{trace.depth}")), fed),)
        trace.role(names[-1], Role("{0} <- {1}", (back, own)))
    trace.recurrent.add(names[1].rpartition(".")[0])
    trace.role(names[0], Role("{0} <- {1}", (own, read), blocks))
    trace.role(names[1], Role("{0} <- {1}", (own, back), blocks))
    if bias:
        trace.role(names[2], Role("{0}", (own,), blocks))
        trace.role(names[3], Role("{0}", (own,), blocks))
    return back, own


def _initial(trace: Trace, given: Tensor, parts: list[Parts]) -> frozenset[Axis]:
    """A state handed in has the neurons of the layer that takes it."""
    label = trace.label_of(given)
    if label is None:  # of the dense size: the small module reduces it
        return frozenset()
    reason = f"{trace.where()} takes it as its initial state"
    befores: list[Parts] = []
    if isinstance(label, States):
        befores = list(label.parts)
    elif label.dim == -1:
        befores = [label.parts] * len(parts)
    if len(befores) != len(parts):
        return trace.need([label], reason)
    unread: frozenset[Axis] = frozenset()
    for before, own in zip(befores, parts, strict=True):
        if trace.meet(before, own, reason) is None:
            unread |= trace.need([Features(-1, before)], reason)
    return unread


def _ungated(trace: Trace, call: Call, why: str) -> frozenset[Axis]:
    """A recurrent module that stays as it is, with all that it reads."""
    trace.ungated[trace.path[-1]] = why
    labels: list[Label] = list(call.labels.values())
    return trace.need(labels, f"{trace.where()} {why}")


ROLES: dict[str, RoleRow] = {
    "embedding": _embedding,
    "linear": _linear,
    "conv1d": _conv1d,
    "batch_norm": _batch_norm,
    **dict.fromkeys(BLOCKS, _recurrent),
    **dict.fromkeys((f"{kind}_cell" for kind in BLOCKS), _recurrent_cell),
}


def followed_modules(trace: Trace, model: nn.Module) -> dict[str, bool]:
    """Recurrent modules of torch, and whether their neurons were found."""
    return {
        name: name in trace.recurrent
        for name, module in model.named_modules()
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase))
    }
