"""Calls where neurons meet others: element by element, side by side, or in a product.

A row labels `call.out` and returns None, or returns why it cannot, to follow "reads it in".
"""

from __future__ import annotations

from torch import Tensor

from l0gate.backends._torch.tracing.rules.reshaping import alike, flat, reduced
from l0gate.backends._torch.tracing.tracer import (
    Axis,
    Call,
    Features,
    Label,
    Parts,
    Role,
    Row,
    Trace,
    axes_of,
)


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
        if i in call.labels or tensor.dim() < -met.dim or alike(tensor, met.dim):
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


def _prelu(trace: Trace, call: Call) -> str | None:
    if call.argument(1, "weight").numel() == 1:
        return _elementwise(trace, call)
    return "prelu with a slope for each channel"


def _extreme(trace: Trace, call: Call) -> str | None:
    """`max` and `min`: of two tensors, or over a dimension."""
    other = isinstance(call.argument(1, "dim", call.kwargs.get("axis")), Tensor)
    return _elementwise(trace, call) if other else reduced(trace, call)


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
        if label is None and alike(tensor, dim):
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
MET: dict[str, Row] = {
    **dict.fromkeys(_ELEMENTWISE.split(), flat(_elementwise)),
    "prelu": flat(_prelu),
    **dict.fromkeys(("max", "min"), flat(_extreme)),
    **dict.fromkeys(("cat", "concat", "concatenate"), flat(_joined)),
    "stack": flat(_stacked),
    "pad_sequence": flat(_pad_sequence),
    **dict.fromkeys(("matmul", "mm", "bmm", "rmatmul"), _matmul),
    "einsum": flat(_einsum),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("group_norm", "layer_norm", "rms_norm", "normalize", "norm"), _normed),
}
