"""Recurrent layers: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`, and their cells.

A layer reads the features of its input and writes its hidden neurons, which it also reads one time
step later.
"""

from __future__ import annotations

from torch import Tensor

from l0gate.backends._torch.pytree import tensors
from l0gate.backends._torch.tracing.labels import (
    Axis,
    Features,
    Label,
    Parts,
    StackedStates,
    Use,
    axes_in,
    root,
    unpruned,
)
from l0gate.backends._torch.tracing.rules.layers import COMPUTED
from l0gate.backends._torch.tracing.tracer import Call, Trace
from l0gate.layout.stacked import BLOCKS


def recurrent(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """`torch.lstm`, `torch.gru` and so on: one call runs all layers and directions.

    The input may be padded, unbatched or packed.
    """
    packed = isinstance(call.args[3], (list, tuple))
    x, (hx, weights, bias, layers, _, _, bidirectional) = (
        call.args[0],
        call.args[1 + packed : 8 + packed],
    )
    names = [trace.names.get(id(weight), "") for weight in weights]
    if "" in names:
        return _ungated(trace, call, f"has a weight that {COMPUTED}{trace.way_round()}")
    if len(set(names)) < len(names):
        return _ungated(trace, call, "has one tensor for two of its weights")
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)  # w_ih, w_hh, two biases, a projection
    features, frozen = _input(trace, x, untracked)
    first = names[0] not in trace.uses
    hidden: list[Parts] = []
    carried: list[Parts] = []
    for layer in range(layers):
        written: list[tuple[Axis | None, int]] = []
        for direction in range(directions):
            start = (layer * directions + direction) * each
            own_names, own = names[start : start + each], weights[start : start + each]
            letter = "fb"[direction] if bidirectional else "h"
            h, c = _layer(trace, own_names, own, bias, features, letter, BLOCKS[call.name])
            written += h
            hidden.append(h)
            carried.append(c)
        features = tuple(written)
        trace.depth += first
    trace.label(call.out[0], Features(-1, features))
    for state, parts in zip(call.out[1:], (hidden, carried), strict=False):
        trace.label(state, StackedStates(tuple(parts)))
    for given, parts in zip(tensors(hx), (hidden, carried), strict=False):
        frozen |= _initial_state(trace, given, parts)
    trace.layers.append(
        {
            "type": call.name,
            "name": names[0].rpartition(".")[0],
            "num_layers": layers,
            "bidirectional": bool(bidirectional),
            "bias": bool(bias),
        }
    )
    return frozen


def recurrent_cell(trace: Trace, call: Call, untracked: frozenset[Axis]) -> frozenset[Axis]:
    """`torch.lstm_cell`, `torch.gru_cell` and so on: one time step of one layer."""
    x, hx, *weights = call.args
    own = [weight for weight in weights if weight is not None]
    names = [trace.names.get(id(weight), "") for weight in own]
    if "" in names:
        return _ungated(trace, call, f"has a weight that {COMPUTED}{trace.way_round()}")
    features, frozen = _input(trace, x, untracked)
    first = names[0] not in trace.uses
    blocks = BLOCKS[call.name.removesuffix("_cell")]
    h, _ = _layer(trace, names, own, len(own) > 2, features, "h", blocks)
    trace.depth += first
    for state in tensors(call.out):
        trace.label(state, Features(-1, h))
    for given in tensors(hx):
        frozen |= _initial_state(trace, given, [h])
    trace.layers.append({"type": call.name})
    return frozen


def _input(trace: Trace, x: Tensor, untracked: frozenset[Axis]) -> tuple[Parts, frozenset[Axis]]:
    """What the features of x run over, and the axes that reading them freezes.

    Feed-forward axes that x depends on, labelled or untracked, get the depth of this layer, from
    which their name is made.
    """
    label = trace.label_of(x)
    features = None if label is None else trace.features_from(label)
    frozen: frozenset[Axis] = frozenset()
    if label is not None and (features is None or features.dim != -1):
        frozen = trace.freeze_in(
            [label], "a recurrent layer, but not in the last dimension, which it reads"
        )
        features = None
    parts: Parts = unpruned(x.shape[-1]) if features is None else features.parts
    for axis in axes_in(parts) if features is not None else map(root, untracked):
        axis.depth = trace.depth if axis.depth is None else axis.depth
    return parts, frozen


def _layer(
    trace: Trace,
    names: list[str],
    weights: list[Tensor],
    bias: bool,
    read: Parts,
    letter: str,
    blocks: int,
) -> tuple[Parts, Parts]:
    """Record the uses of the parameters of one layer and direction; returns the parts of h and c.

    `names` and `weights` are those of w_ih and w_hh, then of the two biases, then of a projection,
    as far as the layer has them. h and c differ only if a projection writes h.
    """
    size, fed_back = weights[1].shape[0] // blocks, weights[1].shape[1]
    c: Parts = ((trace.axes.setdefault((names[1], 0), Axis(size, f"{letter}{trace.depth}")), size),)
    h = c
    projected = len(names) in (3, 5)
    if projected:
        prefix = "p" if letter == "h" else f"{letter}p"
        projection = Axis(fed_back, f"{prefix}{trace.depth}")
        h = ((trace.axes.setdefault((names[-1], 0), projection), fed_back),)
        trace.record_use(names[-1], Use("{0} <- {1}", (h, c)))
    trace.recurrent.add(names[1].rpartition(".")[0])
    trace.record_use(names[0], Use("{0} <- {1}", (c, read), blocks))
    trace.record_use(names[1], Use("{0} <- {1}", (c, h), blocks))
    if bias:
        trace.record_use(names[2], Use("{0}", (c,), blocks))
        trace.record_use(names[3], Use("{0}", (c,), blocks))
    return h, c


def _initial_state(trace: Trace, given: Tensor, parts: list[Parts]) -> frozenset[Axis]:
    """Unite the neurons of an initial state with those of the layers that it is given to.

    `parts` are those of each layer and direction. Returns the axes that this freezes.
    """
    label = trace.label_of(given)
    if label is None:  # it keeps the dense size, which the small module accepts and reduces,
        if len(parts) == 1:  # unless the model holds it
            trace.record_held(given, -1, parts[0])
        return frozenset()
    how = "the initial state, where they do not match the module's own neurons"
    befores: list[Parts] = []
    if isinstance(label, StackedStates):
        befores = list(label.parts)
    elif label.dim == -1:
        befores = [label.parts] * len(parts)
    if len(befores) != len(parts):
        return trace.freeze_in([label], how)
    reason = f"{trace.where()} uses its neurons in {how}"
    frozen: frozenset[Axis] = frozenset()
    for before, own in zip(befores, parts, strict=True):
        if trace.unite_parts(before, own, reason) is None:
            frozen |= trace.freeze([Features(-1, before)], reason)
    return frozen


def _ungated(trace: Trace, call: Call, why: str) -> frozenset[Axis]:
    """Leave a recurrent module ungated, and freeze the axes of all its arguments."""
    trace.ungated[trace.path[-1]] = why
    labels: list[Label] = list(call.labels.values())
    return trace.freeze(labels, f"{trace.where()} {why}")
