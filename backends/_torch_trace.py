"""Derives a layout: runs a model on example inputs and follows neurons through the calls.

Every tensor that carries prunable neurons has a label that says which of its dimensions runs over
which axes. A call that takes such a tensor is followed by its row in `FOLLOWED`, which labels what
the call returns; the axes that enter a call without a row, or one that its row cannot follow, need
every neuron from there on, and the reason is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate._errors import L0GateError, check
from l0gate._layout import Layout
from l0gate._notation import Block, Dimension
from l0gate.backends._torch_tree import Inputs, copied, tensors, undisturbed

GATES = {"lstm": 4, "gru": 3}
COMPUTED = "is computed, as by weight_norm or a parametrization, so gates cannot be folded into it"


@dataclass(eq=False)
class Axis:
    """A set of neurons, found where something writes it."""

    size: int
    name: str = ""  # of hidden neurons; that of feed-forward neurons depends on their reader
    depth: int | None = None  # of the first recurrent layer that reads feed-forward neurons
    seen: bool = False  # by the caller, in an output
    reasons: list[str] = field(default_factory=list)  # why every neuron is needed


Parts = tuple[tuple[Axis | None, int], ...]  # axes, or None for fixed neurons, with their sizes


@dataclass(frozen=True)
class Features:
    """Dimension `dim` (negative, from the end) runs over `parts`."""

    dim: int
    parts: Parts


@dataclass(frozen=True)
class States:
    """Slice i of the first dimension has `parts[i]` in its last: stacked recurrent states."""

    parts: tuple[Parts, ...]


Label = Features | States


@dataclass(frozen=True)
class Role:
    """How a call uses a parameter: what its dimensions run over, with an arrow or without."""

    form: str  # "{0} <- {1}", "{0} -> {1}" or "{0}", of the dimensions in storage order
    dimensions: tuple[Parts, ...]
    blocks: int = 1  # of the dimension written, such as the 4 gates of an LSTM

    @property
    def read(self) -> Parts:
        """What stands on the in-side."""
        return self.dimensions[1] if "<-" in self.form else ()


@dataclass(frozen=True)
class Derived:
    """What a trace found: `frozen` are axes that the caller sees, `layers` the calls as a chain."""

    layout: Layout
    frozen: tuple[str, ...]
    layers: list[dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """One call of a torch function, with the labels of the tensors that it was given."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[Tensor]
    labels: dict[int, Label]  # by position in `given`
    out: Any

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may be positional or named."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def features(self) -> Features | None:
        """The label of the first argument, if it carries features."""
        label = self.labels.get(0)
        return label if isinstance(label, Features) else None


class Trace(TorchFunctionMode):
    """Follows the calls of one run of `model`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.labels: dict[int, tuple[Tensor, Label]] = {}  # the tensor keeps its id in use
        self.lost: dict[int, tuple[Tensor, frozenset[Axis]]] = {}  # downstream of a reason
        self.axes: dict[str, tuple[Axis, ...]] = {}  # by the parameter that writes them
        self.roles: dict[str, Role] = {}
        self.elsewhere: dict[str, str] = {}  # parameters that other calls use too
        self.layers: list[dict[str, Any]] = []
        self.depth = 0
        self.path: list[str] = [""]
        self.called: set[str] = set()

    def run(self, inputs: Inputs) -> None:
        """Run the model and look at what it returns."""
        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(name), prepend=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with self:
                out = self.model(*inputs[0], **inputs[1])
        finally:
            for handle in handles:
                handle.remove()
        for tensor in tensors(out):
            label = self.label_of(tensor)
            if isinstance(label, Features):
                for axis in _axes(label.parts):
                    axis.seen = True

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self.path.append(name)
            self.called.add(name)

        return enter

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self.path.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [*tensors(args), *tensors(kwargs)]
        # What is known of the arguments must be read before the call, which may change them.
        labels = {i: known for i, t in enumerate(given) if (known := self.label_of(t)) is not None}
        lost = frozenset[Axis]().union(*(self.lost_of(t) for t in given))
        out = func(*args, **kwargs)
        call = Call(_name(func), args, kwargs, given, labels, out)
        if call.name in QUERIES or call.name.startswith("is_"):
            return out
        if call.name in CHAIN_ACTIVATIONS:
            self.layers.append({"type": "activation", "function": call.name})
        if call.name in ROLES:  # reads the neurons: what follows carries others
            lost = ROLES[call.name](self, call, lost)
        else:
            for tensor in given:
                if id(tensor) in self.names:
                    self.elsewhere[self.names[id(tensor)]] = (
                        f"{self.where()} uses it in {call.name}"
                    )
            if labels:
                lost |= self._follow(call)
        if lost:
            for tensor in tensors(out):
                self.lost[id(tensor)] = (tensor, lost | self.lost_of(tensor))
        return out

    def _follow(self, call: Call) -> frozenset[Axis]:
        """Label what a call without parameters returns; the axes that could not be followed."""
        row = FOLLOWED.get(call.name)
        reason = f"{call.name}, which is not followed" if row is None else row(self, call)
        if reason is None:
            return frozenset()
        return self.need(call.labels.values(), f"{self.where()} reads it in {reason}")

    # What rows use ----------------------------------------------------------------------------

    def label_of(self, tensor: Tensor) -> Label | None:
        return self.labels[id(tensor)][1] if id(tensor) in self.labels else None

    def lost_of(self, tensor: Tensor) -> frozenset[Axis]:
        return self.lost[id(tensor)][1] if id(tensor) in self.lost else frozenset()

    def label(self, tensor: Tensor, label: Label) -> None:
        self.labels[id(tensor)] = (tensor, label)

    def need(self, labels: Iterable[Label], reason: str) -> frozenset[Axis]:
        """Every neuron of these labels is needed, for that reason; returns their axes."""
        axes = frozenset(axis for label in labels for axis in _axes_of(label))
        for axis in axes:
            axis.reasons.append(reason)
        return axes

    def where(self) -> str:
        """The module that is running, in words."""
        name = self.path[-1]
        kind = type(self.model.get_submodule(name)).__name__
        return f"module {name!r} ({kind})" if name else f"the model's own forward ({kind})"

    def role(self, name: str, role: Role) -> None:
        """Note how a parameter is used; a second, different use needs every neuron of both."""
        known = self.roles.setdefault(name, role)
        if known != role:
            reason = f"parameter {name!r} is used in two ways, the second by {self.where()}"
            for dimension in (*known.dimensions, *role.dimensions):
                self.need([Features(-1, dimension)], reason)


# Calls that use parameters --------------------------------------------------------------------


def _embedding(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    weight = call.argument(1, "weight")
    name = trace.names.get(id(weight))
    if name is None:  # a table that is computed; nothing is known of what it writes
        return frozenset()
    rows, size = weight.shape
    (axis,) = trace.axes.setdefault(name, (Axis(size),))
    trace.role(name, Role("{0} -> {1}", (((None, rows),), ((axis, size),))))
    trace.label(call.out, Features(-1, ((axis, size),)))
    trace.layers.append({"type": "embedding", "name": name.removesuffix(".weight")})
    if call.argument(3, "max_norm") is not None:
        label = Features(-1, ((axis, size),))
        return trace.need([label], f"{trace.where()} has max_norm, a norm over all neurons")
    return frozenset()


def _linear(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    x, weight, bias = (call.argument(i, n) for i, n in enumerate(("input", "weight", "bias")))
    name, bias_name = trace.names.get(id(weight)), trace.names.get(id(bias))
    size, inputs = weight.shape
    label = trace.label_of(x)
    if name is None or (bias is not None and bias_name is None):
        labels = [] if label is None else [label]
        return trace.need(labels, f"{trace.where()} reads it with a weight that {COMPUTED}")
    if isinstance(label, States) or (label is not None and label.dim != -1):
        return trace.need(
            [label], f"{trace.where()} reads it along another dimension than the last"
        )
    read: Parts = ((None, inputs),) if label is None else label.parts
    (axis,) = trace.axes.setdefault(name, (Axis(size),))
    written: Parts = ((axis, size),)
    trace.role(name, Role("{0} <- {1}", (written, read)))
    if bias_name is not None:
        trace.role(bias_name, Role("{0}", (written,)))
    trace.label(call.out, Features(-1, written))
    trace.layers.append(
        {"type": "linear", "name": name.removesuffix(".weight"), "bias": bias is not None}
    )
    return frozenset()


def _recurrent(trace: Trace, call: Call, lost: frozenset[Axis]) -> frozenset[Axis]:
    """`torch.lstm` and `torch.gru`, on padded or on packed input."""
    packed = isinstance(call.args[3], (list, tuple))
    x, (hx, weights, bias, layers, _, _, bidirectional) = (
        call.args[0],
        call.args[1 + packed : 8 + packed],
    )
    check(
        all(id(weight) in trace.names for weight in weights),
        f"{trace.where()} has a weight that {COMPUTED}; remove that, or give `layout=` without this"
        " module",
    )
    names = [trace.names[id(weight)] for weight in weights]
    directions = 2 if bidirectional else 1
    each = 4 if bias else 2
    check(
        len(weights) == layers * directions * each,
        f"{trace.where()} has proj_size, which l0gate does not gate yet; use proj_size=0, or give"
        " `layout=` without this module",
    )
    label = trace.label_of(x)
    unread: frozenset[Axis] = frozenset()
    if isinstance(label, States) or (label is not None and label.dim != -1):
        unread = trace.need([label], f"{trace.where()} reads its last dimension, which is another")
        label = None
    features: Parts = ((None, x.shape[-1]),) if label is None else label.parts
    for axis in (*_axes(features), *lost):
        axis.depth = trace.depth if axis.depth is None else axis.depth
    first = names[0] not in trace.roles
    states: list[Parts] = []
    blocks = GATES[call.name]
    for layer in range(layers):
        written: list[tuple[Axis | None, int]] = []
        for direction in range(directions):
            start = (layer * directions + direction) * each
            size = weights[start + 1].shape[1]
            letter = "fb"[direction] if bidirectional else "h"
            axes = (Axis(size, f"{letter}{trace.depth}"),)
            (axis,) = trace.axes.setdefault(names[start + 1], axes)
            own: Parts = ((axis, size),)
            for i, role in enumerate(
                [
                    Role("{0} <- {1}", (own, features), blocks),
                    Role("{0} <- {1}", (own, own), blocks),
                    Role("{0}", (own,), blocks),
                    Role("{0}", (own,), blocks),
                ][:each]
            ):
                trace.role(names[start + i], role)
            written += own
            states.append(own)
        features = tuple(written)
        trace.depth += first
    trace.label(call.out[0], Features(-1, features))
    for state in call.out[1:]:
        trace.label(state, States(tuple(states)))
    for given in tensors(hx):
        before = trace.label_of(given)
        if before is not None and before != States(tuple(states)):
            unread |= trace.need([before], f"{trace.where()} takes it as its initial state")
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


# Each returns the axes that the call needs whole.
ROLES: dict[str, Callable[[Trace, Call, frozenset[Axis]], frozenset[Axis]]] = {
    "embedding": _embedding,
    "linear": _linear,
    "lstm": _recurrent,
    "gru": _recurrent,
}

# Calls that only pass neurons on --------------------------------------------------------------
# A row labels `call.out` and returns None, or returns why it cannot, to follow "reads it in".


def _elementwise(trace: Trace, call: Call) -> str | None:
    labels = set(call.labels.values())
    if not isinstance(call.out, Tensor):
        return call.name
    if len(labels) > 1:
        return f"{call.name}, where it meets other neurons"
    (label,) = labels
    for i, tensor in enumerate(call.given):
        if i in call.labels:
            continue
        if isinstance(label, States):
            return f"{call.name}, where it meets another tensor"
        if tensor.dim() >= -label.dim and tensor.shape[label.dim] != 1:
            return f"{call.name}, where it meets a tensor of full width without named neurons"
    trace.label(call.out, label)
    return None


def _squeezed(trace: Trace, call: Call) -> str | None:
    """`squeeze` and `unsqueeze`: stacked states keep their first and last dimension, or are one."""
    label, dim = call.labels.get(0), call.argument(1, "dim")
    if not isinstance(label, States) or not isinstance(dim, int):
        return _reshaped(trace, call)
    count = call.given[0].dim() + (call.name == "unsqueeze")
    if 0 < dim % count < count - 1:
        trace.label(call.out, label)
        return None
    if call.name == "squeeze" and dim % count == 0 and len(label.parts) == 1:
        trace.label(call.out, Features(-1, label.parts[0]))
        return None
    return call.name


def _reshaped(trace: Trace, call: Call) -> str | None:
    """The dimension must survive: the same size, with as many numbers behind it."""
    features = call.features
    if features is None or not call.out.is_floating_point():
        return call.name
    shape = call.given[0].shape
    behind = shape[features.dim :].numel()
    for dim in range(-1, -call.out.dim() - 1, -1):
        if call.out.shape[dim] == shape[features.dim] and call.out.shape[dim:].numel() == behind:
            trace.label(call.out, Features(dim, features.parts))
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
        return "an index other than one number, the layer's and direction's"
    if label is None:
        return "an index"
    items = list(index) if isinstance(index, tuple) else [index]
    taken = [0 if i is None else i.dim() if _is_mask(i) else 1 for i in items if i is not ...]
    missing = [slice(None)] * (tensor.dim() - sum(taken))
    place = next((k for k, i in enumerate(items) if i is ...), len(items))
    items[place : place + 1] = missing
    dim, at = label.dim + tensor.dim(), 0
    for k, item in enumerate(items):
        width = 0 if item is None else item.dim() if _is_mask(item) else 1
        if at <= dim < at + width:
            rest = items[k + 1 :]
            whole = isinstance(item, slice) and item == slice(None)
            if not whole or not all(i is None or isinstance(i, (int, slice)) for i in rest):
                return "an index that takes some of its neurons, or moves them"
            behind = sum(not isinstance(i, int) for i in rest)
            trace.label(call.out, Features(-1 - behind, label.parts))
            return None
        at += width
    raise AssertionError("an index reaches every dimension")


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8)


def _along(position: int, *, several: bool = False) -> Callable[[Trace, Call], str | None]:
    """A row for calls that work along the dimension in that argument and keep all dimensions."""

    def row(trace: Trace, call: Call) -> str | None:
        label = call.labels.get(0)
        dims = (call.argument(position, "dim", 0),)
        if several:
            dims = _dimensions(call, position)
        if label is None or not all(isinstance(d, int) for d in dims):
            return call.name
        count = call.given[0].dim()
        fixed = {label.dim} if isinstance(label, Features) else {-1, -count}
        if any(d % count - count in fixed for d in dims):
            return f"{call.name} along the neurons' own dimension"
        for out in tensors(call.out):
            trace.label(out, label)
        return None

    return row


def _dimensions(call: Call, position: int) -> tuple[Any, ...]:
    """Dimensions given as `dims`, as a tuple, or one after the other."""
    given = call.kwargs.get("dims", call.args[position:])
    if isinstance(given, (tuple, list)) and len(given) == 1:
        (given,) = given
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _separated(trace: Trace, call: Call) -> str | None:
    """`unbind` and `select`: one dimension goes."""
    tensor, dim = call.args[0], call.argument(1, "dim", 0)
    label = trace.label_of(tensor)
    if isinstance(label, States):
        if call.name == "unbind" and dim == 0:
            for part, out in zip(label.parts, call.out, strict=True):
                trace.label(out, Features(-1, part))
            return None
        return call.name
    if label is None or (gone := dim % tensor.dim() - tensor.dim()) == label.dim:
        return f"{call.name} along the neurons' own dimension"
    for out in tensors(call.out):
        trace.label(out, Features(label.dim + (gone > label.dim), label.parts))
    return None


def _joined(trace: Trace, call: Call) -> str | None:
    """`cat`: along the neurons' dimension their axes stand side by side."""
    labels = [call.labels.get(i) for i in range(len(call.given))]
    features = [label for label in labels if isinstance(label, Features)]
    dims = {label.dim for label in features}
    if len(dims) != 1 or any(isinstance(label, States) for label in labels):
        return f"{call.name} of different kinds of tensors"
    (dim,) = dims
    count = call.out.dim()
    if call.argument(1, "dim", call.kwargs.get("axis", 0)) % count - count != dim:
        if len(features) == len(labels) and len(set(features)) == 1:
            trace.label(call.out, features[0])
            return None
        return f"{call.name}, where it meets other neurons"
    parts: list[tuple[Axis | None, int]] = []
    for label, tensor in zip(labels, call.given, strict=True):
        parts += label.parts if isinstance(label, Features) else ((None, tensor.shape[dim]),)
    trace.label(call.out, Features(dim, tuple(parts)))
    return None


def _stacked(trace: Trace, call: Call) -> str | None:
    """`stack`: the same neurons at every place along a new dimension."""
    label = call.labels.get(0)
    if not isinstance(label, Features) or len(call.labels) < len(call.given):
        return f"{call.name} of different kinds of tensors"
    if len(set(call.labels.values())) > 1:
        return f"{call.name}, where it meets other neurons"
    count = call.out.dim()
    new, old = call.argument(1, "dim", 0) % count, label.dim + count - 1
    trace.label(call.out, Features(label.dim - (new > old), label.parts))
    return None


def _packed(trace: Trace, call: Call) -> str | None:
    features = call.features
    if features is None or features.dim != -1:
        return f"{call.name} with the neurons in another than the last dimension"
    trace.label(call.out[0], features)
    return None


CHAIN_ACTIVATIONS = frozenset({"tanh", "sigmoid", "relu"})
_ELEMENTWISE = (
    "abs add alpha_dropout bfloat16 celu clamp clip clone contiguous cos cpu cuda data.get detach"
    " div double dropout elu empty_like exp expand expand_as float full_like gelu half hardshrink"
    " hardsigmoid hardswish hardtanh leaky_relu logsigmoid masked_fill maximum minimum mish mul neg"
    " ones_like pow radd relu relu6 rmul rsub selu sigmoid silu sin softplus softshrink softsign"
    " square sub tanh tanhshrink to true_divide type type_as where zeros_like"
)
FOLLOWED: dict[str, Callable[[Trace, Call], str | None]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("flatten", "reshape", "unflatten", "view"), _reshaped),
    **dict.fromkeys(
        ("permute", "transpose", "swapaxes", "swapdims", "t", "T.get", "mT.get"), _permuted
    ),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeezed),
    "getitem": _indexed,
    **dict.fromkeys(("unbind", "select"), _separated),
    "flip": _along(1, several=True),
    **dict.fromkeys(("index_select", "narrow"), _along(1)),
    **dict.fromkeys(("chunk", "split"), _along(2)),
    **dict.fromkeys(("cat", "concat", "concatenate"), _joined),
    "stack": _stacked,
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), _packed),
}
# Calls that read sizes and kinds, but no values.
_QUERIES = (
    "_version.get data_ptr device.get dim dtype.get element_size format get_device grad.get"
    " grad_fn.get"
    " itemsize.get layout.get len ndim.get ndimension nelement new_empty new_full new_ones"
    " new_tensor new_zeros numel repr requires_grad requires_grad.get shape.get size"
    " storage_offset stride"
)
QUERIES = frozenset(_QUERIES.split())


def _name(func: Any) -> str:
    """One name for a function, its method, its in-place form and its operator."""
    name: str = getattr(func, "__name__", "") or repr(func)
    if name in ("__get__", "__set__"):
        return f"{getattr(func.__self__, '__name__', '')}.{name.strip('_')}"
    return name.strip("_") if name.startswith("__") else name.rstrip("_") or name


def _axes(parts: Parts) -> list[Axis]:
    return [axis for axis, _ in parts if axis is not None]


def _axes_of(label: Label) -> list[Axis]:
    if isinstance(label, Features):
        return _axes(label.parts)
    return [axis for parts in label.parts for axis in _axes(parts)]


# The layout -----------------------------------------------------------------------------------


def derive(model: nn.Module, inputs: Inputs, freeze: Sequence[str] = ()) -> Derived:
    """The layout of a model, from one run on `inputs`.

    The axes in `freeze` stay whole, so that whatever happens to their neurons is allowed.
    """
    model = copied(model, share=True).eval()
    trace = Trace(model)
    with undisturbed():
        trace.run(inputs)
    _check_recurrent(trace)
    for name, reason in trace.elsewhere.items():
        if name in trace.roles:
            for dimension in trace.roles[name].dimensions:
                trace.need([Features(-1, dimension)], reason)
    axes = _named(trace)
    unknown = set(freeze) - {axis.name for axis in axes}
    check(
        not unknown,
        f"`freeze` names {', '.join(map(repr, sorted(unknown)))}; the axes of the model are"
        f" {', '.join(axis.name for axis in axes)}",
    )
    _check_reasons(axes, freeze)
    # Neurons that nobody was seen to read have no gates: they are frozen, and lost on their way.
    read = {axis for role in trace.roles.values() for axis in _axes(role.read)}
    axes = [axis for axis in axes if axis in read]
    layout = Layout(
        {name: _pattern(role, axes) for name, role in trace.roles.items()},
        uses={name: 0 for name, role in trace.roles.items() if "->" in role.form},
    )
    frozen = tuple(axis.name for axis in axes if axis.seen or axis.name in freeze)
    return Derived(layout, frozen, trace.layers)


def _check_recurrent(trace: Trace) -> None:
    """No recurrent module is left out in silence."""
    followed = {name.rpartition(".")[0] for name, role in trace.roles.items() if role.blocks > 1}
    for name, module in trace.model.named_modules():
        if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)) or name in followed:
            continue
        kind = type(module).__name__
        if name in trace.called:
            raise L0GateError(
                f"module {name!r} ({kind}) is not followed yet: only nn.LSTM and nn.GRU are; give"
                " `layout=` to gate the rest of the model, or to gate this module by hand"
            )
        warnings.warn(
            f"module {name!r} ({kind}) did not run on `example_inputs`, so it is not gated",
            stacklevel=4,
        )
    check(followed, "no nn.LSTM or nn.GRU of the model ran on `example_inputs`")


def _named(trace: Trace) -> list[Axis]:
    """The axes that get gates, with names in the style of a chain: x, h0, x1, f1, b1."""
    found = [axis for axes in trace.axes.values() for axis in axes]
    taken = {axis.name for axis in found}
    for axis in found:
        if not axis.name and axis.depth is not None:
            base = f"x{axis.depth}" if axis.depth else "x"
            axis.name = next(n for n in _candidates(base) if n not in taken)
            taken.add(axis.name)
    return [axis for axis in found if axis.name]


def _candidates(base: str) -> Iterable[str]:
    yield base
    number = 2
    while True:
        yield f"{base}_{number}"
        number += 1


def _check_reasons(axes: Sequence[Axis], freeze: Sequence[str]) -> None:
    blocked = [axis for axis in axes if axis.reasons and axis.name not in freeze]
    if not blocked:
        return
    lines = [f"  axis {axis.name!r}: {axis.reasons[0]}" for axis in blocked]
    names = ", ".join(repr(axis.name) for axis in blocked)
    raise L0GateError(
        "the layout cannot be derived, since these neurons are used in a way that cannot be"
        f" followed when some of them go:\n{chr(10).join(lines)}\ngive `freeze=[{names}]` to keep"
        " them all, or `layout=` to describe the model by hand"
    )


def _pattern(role: Role, axes: Sequence[Axis]) -> str:
    """Axes without gates are fixed parts; a dimension of fixed parts alone is `_`."""
    dimensions = []
    for i, parts in enumerate(role.dimensions):
        blocks = tuple(
            Block(axis.name, outer=role.blocks if i == 0 else 1)
            if axis is not None and axis in axes
            else Block(None, outer=size)
            for axis, size in parts
        )
        gated = any(block.axis is not None for block in blocks)
        dimensions.append(str(Dimension(blocks if gated else ())))
    return role.form.format(*dimensions)
