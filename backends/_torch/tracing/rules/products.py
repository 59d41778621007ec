"""Products of matrices: `matmul` in all its forms, `einsum`, attention.

Neurons are followed if the product sums over another dimension, as in a weighted sum over time, or
if it multiplies them by a parameter. A dot product of two activations over their neurons is not
followed: there is no parameter that reads the neurons, into which their gates could be folded.
"""

from __future__ import annotations

from l0gate.backends._torch.tracing.labels import Axis, Features, Parts, Use, axes_of
from l0gate.backends._torch.tracing.rules.common import CANNOT_UNITE, on_features
from l0gate.backends._torch.tracing.tracer import Call, Trace


def matmul(trace: Trace, call: Call) -> str | None:
    """`a @ b`: followed if it does not sum over neurons, or if b is a parameter that reads them.

    For a weighted sum over time, such as (B, S, T) @ (B, T, H) or (B, H, T) @ (B, T, S), the result
    has the neurons of the labelled factor. If a has neurons in its last dimension and b is a
    parameter of shape (in, out), b reads them and writes neurons of its own.
    """
    a, b = call.given[-2:]
    if call.name == "rmatmul":
        a, b = b, a
    labels = (trace.label_of(t) for t in (a, b))
    left, right = (label if label is None else trace.features_from(label) for label in labels)
    written: Parts
    dot_product = f"{call.name}, a dot product over neurons"
    if left is not None and right is not None:
        if left.dim != -2 or right.dim != -1:
            return dot_product
        # Both dimensions of the result have neurons, but a label describes one dimension only.
        how = f"{call.name}, a product with other neurons"
        if _feed_forward(left):
            trace.freeze_in([left], how)
            left = None
        elif _feed_forward(right):
            trace.freeze_in([right], how)
            right = None
        else:
            return how
    if left is None and right is None:
        name = trace.names.get(id(b))
        if name is None or b.dim() != 2 or id(a) in trace.names:
            return None
        columns = b.shape[1]
        written = ((trace.axes.setdefault((name, 1), Axis(columns)), columns),)
        trace.record_use(name, Use("{0} -> {1}", (trace.read_unlabelled(a, -1), written)))
        trace.label(call.out, Features(-1, written))
        return None
    if left is not None:
        name = trace.names.get(id(b))
        if left.dim == -1 and name is not None and b.dim() == 2:
            columns = b.shape[1]
            written = ((trace.axes.setdefault((name, 1), Axis(columns)), columns),)
            trace.record_use(name, Use("{0} -> {1}", (left.parts, written)))
            trace.label(call.out, Features(-1, written))
            return None
        if left.dim != -2:
            return dot_product
        if b.dim() == 1:  # (..., h, t) @ t
            trace.label(call.out, Features(-1, left.parts))
        else:
            trace.label(call.out, left)
        return None
    if right is None or right.dim != -1 or b.dim() < 2:
        return dot_product
    trace.label(call.out, right)
    return None


def addmm(trace: Trace, call: Call) -> str | None:
    """`addmm(bias, x, weight)`: followed like a product and a sum if the bias is a parameter."""
    bias, labels = call.given[0], dict(call.labels)
    if 0 in labels or call.kwargs:
        return "addmm of neurons that are added, or with factors"
    how = matmul(trace, call)
    label = trace.label_of(call.out)
    if isinstance(label, Features) and not trace.record_unlabelled(bias, -1, label.parts):
        return "addmm, with a bias that is no parameter"
    return how


def _feed_forward(label: Features) -> bool:
    """Whether the neurons are feed-forward: no recurrent layer writes them.

    Feed-forward neurons get gates only if a recurrent layer reads them. So where one of two sets
    of neurons must be frozen, freezing a feed-forward set costs less.
    """
    return not any(axis.name for axis in axes_of(label))


@on_features
def einsum(trace: Trace, call: Call) -> str | None:
    """`einsum`: followed if the equation does not sum over the neurons.

    In the equation, one letter names the neurons' dimension, such as h in "bth,bt->bh". That letter
    must be in the result. Each tensor that has the letter must have neurons in that dimension;
    these are united, since they are multiplied elementwise.
    """
    equation = call.args[0]
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return "einsum with an equation that is not written out"
    source, target = equation.replace(" ", "").split("->")
    operands = source.split(",")
    found: dict[str, Parts] = {}
    for i in call.labels:
        label = call.features_of(i)
        assert label is not None
        letter = operands[i][label.dim]
        if letter not in target:
            return "einsum, which sums over the neurons"
        how = f"einsum, {CANNOT_UNITE}"
        reason = f"{trace.where()} uses its neurons in {how}"
        known = found.get(letter)
        united = label.parts if known is None else trace.unite_parts(known, label.parts, reason)
        if united is None:
            return how
        found[letter] = united
    with_others = "einsum, a product with other neurons"
    feed_forward = [letter for letter, own in found.items() if _feed_forward(Features(-1, own))]
    for letter in feed_forward[: len(found) - 1]:
        trace.freeze_in([Features(-1, found.pop(letter))], with_others)
    if len(found) != 1:
        return with_others
    ((letter, parts),) = found.items()
    for i, operand in enumerate(operands):
        own = call.features_of(i)
        if letter in operand and (own is None or operand[own.dim] != letter):
            return "einsum, together with a tensor that is not pruned along with them"
    if any(operand.count(letter) > 1 for operand in [*operands, target]):
        return "einsum, with the letter of the neurons twice in one operand"
    trace.label(call.out, Features(target.index(letter) - len(target), parts))
    return None


def attention(trace: Trace, call: Call) -> str | None:
    """`scaled_dot_product_attention`: the result has the neurons of `value`.

    The neurons of `query` and `key` are frozen, because attention sums over them in a dot product.
    """
    query, key, value = (call.argument(i, n) for i, n in enumerate(("query", "key", "value")))
    labels = [trace.label_of(t) for t in (query, key)]
    how = f"{call.name}, a dot product over neurons"
    trace.freeze_in([label for label in labels if label is not None], how)
    features = trace.label_of(value)
    if features is None:
        return None
    if not isinstance(features, Features) or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out, features)
    return None
