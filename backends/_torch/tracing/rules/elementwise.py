"""Elementwise (channel-wise) operations: neuron i of the result depends on neuron i of the inputs.

The result of an operation in `ELEMENTWISE` has the label of its argument.
"""

from __future__ import annotations

from torch import Tensor

from l0gate.backends._torch.tracing.labels import Features, Label
from l0gate.backends._torch.tracing.rules.common import (
    CANNOT_UNITE,
    on_features,
)
from l0gate.backends._torch.tracing.rules.reductions import reduction
from l0gate.backends._torch.tracing.tracer import Call, Trace

_NAMES = (
    "abs add addcdiv addcmul alpha_dropout bfloat16 celu clamp clamp_max clamp_min clip clone"
    " copy cos cpu cuda div double dropout dropout1d dropout2d feature_dropout elu empty_like eq"
    " erf exp expand expand_as expm1 feature_alpha_dropout fill float floor floor_divide fmod"
    " full_like ge gelu gt half hardshrink hardsigmoid hardswish hardtanh le leaky_relu lerp log"
    " log1p logical_and logical_not logical_or logsigmoid lt masked_fill maximum minimum mish mul"
    " nan_to_num ne neg negative ones_like pow radd reciprocal relu relu6 remainder rmul round rpow"
    " rrelu rsqrt rsub rtruediv selu sigmoid sign silu sin softplus softshrink softsign sqrt square"
    " sub subtract multiply divide tanh tanhshrink threshold true_divide truediv bool int long"
    " where zero zeros_like iadd imul isub itruediv"
)
ELEMENTWISE = frozenset(_NAMES.split())


@on_features
def elementwise(trace: Trace, call: Call) -> str | None:
    """Unite the axes of all arguments: neurons at the same position are pruned together.

    An argument without a label must be constant along the neurons' dimension, or be a parameter,
    a buffer or held by the model, such as a gain for each neuron. That tensor is then pruned with
    the neurons.
    """
    if not isinstance(call.out, Tensor):
        return call.name
    united: Features | None = None
    broadcast: list[Label] = []  # one neuron, combined with all neurons of another argument
    for i, label in call.labels.items():
        assert isinstance(label, Features)
        dim, given = label.dim, call.given[i]
        if given.shape[dim] == 1 and call.out.dim() >= -dim and call.out.shape[dim] != 1:
            broadcast.append(label)
        elif united is None:
            united = label
        elif united.dim != dim:
            return f"{call.name}, together with other neurons that lie in another dimension"
        else:
            how = f"{call.name}, {CANNOT_UNITE}"
            reason = f"{trace.where()} uses its neurons in {how}"
            parts = trace.unite_parts(united.parts, label.parts, reason)
            if parts is None:
                return how
            united = Features(dim, parts)
    if broadcast:
        trace.freeze_in(broadcast, f"{call.name}, where one neuron is broadcast to many")
    if united is None:
        return None
    for i, tensor in enumerate(call.given):
        if i in call.labels or tensor.dim() < -united.dim:
            continue
        if call.constant_along(tensor, united.dim):
            continue
        if not trace.record_unlabelled(tensor, united.dim, united.parts):
            return (
                f"{call.name}, together with a tensor that has a value for each neuron and is no"
                " parameter or buffer and is not held by the model, so it would keep its size"
            )
    trace.label(call.out, united)
    return None


@on_features
def prelu(trace: Trace, call: Call) -> str | None:
    """`prelu` is followed if it has one weight for all neurons."""
    if call.argument(1, "weight").numel() == 1:
        return elementwise(trace, call)
    return "prelu with a weight for each channel"


@on_features
def maximum_or_reduction(trace: Trace, call: Call) -> str | None:
    """`max` and `min`: elementwise of two tensors, or a reduction over a dimension."""
    other = isinstance(call.argument(1, "dim", call.kwargs.get("axis")), Tensor)
    return elementwise(trace, call) if other else reduction(trace, call)
