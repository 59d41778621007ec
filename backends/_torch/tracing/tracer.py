"""Follows neurons through one run of a model: what a tensor's dimensions carry, call by call.

Every tensor that carries prunable neurons has a label that says which of its dimensions runs over
which axes. A call that takes such a tensor is followed by its row (`_torch_rows`, and
`_torch_roles` where parameters take part), which labels what the call returns; the axes that enter
a call without a row, or one that its row cannot follow, need every neuron from there on, and the
reason is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate.backends._torch.pytree import Inputs, returned_tensors, tensors
from l0gate.backends._torch.shrinking.ragged import RaggedRNN

COMPUTED = "is computed, as by weight_norm or a parametrization, so gates cannot be folded into it"


@dataclass(eq=False)
class Axis:
    """A set of neurons, found where something writes it; axes that meet become one (`unite`)."""

    size: int
    name: str = ""  # of hidden neurons; that of feed-forward neurons depends on their reader
    depth: int | None = None  # of the first recurrent layer that reads feed-forward neurons
    seen: bool = False  # by the caller, in an output
    reasons: list[str] = field(default_factory=list)  # why every neuron is needed
    parent: Axis | None = None  # the axis that this one became part of
    born: int = field(default_factory=itertools.count().__next__)


def root(axis: Axis) -> Axis:
    """The axis that stands for all that were united with it."""
    while axis.parent is not None:
        axis = axis.parent
    return axis


def unite(a: Axis, b: Axis) -> Axis:
    """Make two axes one: that with a name, or the older one, speaks for both."""
    a, b = sorted((root(a), root(b)), key=lambda axis: (not axis.name, axis.born))
    if a is not b:
        b.parent = a
        a.seen |= b.seen
        a.reasons += b.reasons
        depths = [axis.depth for axis in (a, b) if axis.depth is not None]
        a.depth = min(depths, default=None)
    return a


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
    lookup: bool = False  # a table: its rows are looked up, not multiplied

    @property
    def read(self) -> Parts:
        """What stands on the in-side."""
        if "<-" in self.form:
            return self.dimensions[1]
        return self.dimensions[0] if "->" in self.form and not self.lookup else ()


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
        return self.features_of(0)

    def features_of(self, position: int) -> Features | None:
        label = self.labels.get(position)
        return label if isinstance(label, Features) else None


Row = Callable[["Trace", Call], str | None]  # why it cannot follow, after "reads it in"
RoleRow = Callable[["Trace", Call, frozenset[Axis]], frozenset[Axis]]  # the axes needed whole


@dataclass(frozen=True)
class Rows:
    """What is known of the calls of torch, by name."""

    roles: Mapping[str, RoleRow]
    followed: Mapping[str, Row]
    queries: frozenset[str]
    activations: frozenset[str]  # that a chain may hold


class Trace(TorchFunctionMode):
    """Follows the calls of one run of `model`."""

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        # A buffer that is not saved could not be restored at its small size.
        saved = model.state_dict(keep_vars=True)
        buffers = [(name, b) for name, b in model.named_buffers() if name in saved]
        named = [*model.named_parameters(), *buffers]
        self.names = {id(tensor): name for name, tensor in named}
        self.labels: dict[int, tuple[Tensor, Label]] = {}  # the tensor keeps its id in use
        self.lost: dict[int, tuple[Tensor, frozenset[Axis]]] = {}  # downstream of a reason
        # By the parameter that writes them, and its dimension: a tied one may write two.
        self.axes: dict[tuple[str, int], Axis] = {}
        self.roles: dict[str, Role] = {}
        self.used: set[str] = set()  # parameters that the row of the present call describes
        self.elsewhere: dict[str, str] = {}  # parameters that other calls use too
        self.recurrent: set[str] = set()  # recurrent modules whose neurons were found
        self.ungated: dict[str, str] = {}  # recurrent modules that are not followed, and why
        self.layers: list[dict[str, Any]] = []
        self.depth = 0
        self.path: list[str] = [""]
        self.called: set[str] = set()
        self.touched: set[str] = set()  # parameters that any call was given
        self.states: dict[int, Tensor] = {}  # what cells returned

    def run(self, inputs: Inputs) -> None:
        """Run the model and look at what it returns."""
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks; what it reads shows when the small model is tried
            handles.append(module.register_forward_pre_hook(self._enter(name), prepend=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with self:
                out = self.model(*inputs[0], **inputs[1])
        finally:
            for handle in handles:
                handle.remove()
        returned = list(returned_tensors(out))
        # States shrink with their layer; where nothing else is returned, the caller wants them.
        others = [t for t in returned if not self._is_state(t)]
        for tensor in others or returned:
            label = self.label_of(tensor)
            for axis in [] if label is None else axes_of(label):
                axis.seen = True

    def _is_state(self, tensor: Tensor) -> bool:
        return id(tensor) in self.states or isinstance(self.label_of(tensor), States)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self.path.append(name)
            self.called.add(name)

        return enter

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self.path.pop()
        if isinstance(module, (nn.RNNCellBase, RaggedRNN)):
            states = out if isinstance(module, nn.RNNCellBase) else out[1]
            self.states |= {id(tensor): tensor for tensor in tensors(states)}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [*tensors(args), *tensors(kwargs)]
        # What is known of the arguments must be read before the call, which may change them.
        labels = {i: known for i, t in enumerate(given) if (known := self.label_of(t)) is not None}
        lost = frozenset[Axis]().union(*(self.lost_of(t) for t in given))
        self.touched |= {self.names[id(t)] for t in given if id(t) in self.names}
        out = func(*args, **kwargs)
        call = Call(_name(func), args, kwargs, given, labels, out)
        if call.name in self.rows.queries or call.name.startswith("is_"):
            return out
        if call.name in self.rows.activations:
            self.layers.append({"type": "activation", "function": call.name})
        self.used = set()
        if call.name in self.rows.roles:  # reads the neurons: what follows carries others
            lost = self.rows.roles[call.name](self, call, lost)
        else:
            if labels:
                lost |= self._follow(call)
            for tensor in given:
                name = self.names.get(id(tensor))
                if name is not None and name not in self.used:
                    self.elsewhere[name] = f"{self.where()} uses it in {call.name}"
        if lost:
            for tensor in tensors(out):
                self.lost[id(tensor)] = (tensor, lost | self.lost_of(tensor))
        return out

    def _follow(self, call: Call) -> frozenset[Axis]:
        """Label what a call without parameters returns; the axes that could not be followed."""
        row = self.rows.followed.get(call.name)
        reason = f"{call.name}, which is not followed" if row is None else row(self, call)
        if reason is None:
            return frozenset()
        return self.need(call.labels.values(), f"{self.where()} reads it in {reason}")

    # What rows use ----------------------------------------------------------------------------

    def label_of(self, tensor: Any) -> Label | None:
        return self.labels[id(tensor)][1] if id(tensor) in self.labels else None

    def lost_of(self, tensor: Tensor) -> frozenset[Axis]:
        return self.lost[id(tensor)][1] if id(tensor) in self.lost else frozenset()

    def label(self, tensor: Tensor, label: Label) -> None:
        sizes = [label.parts] if isinstance(label, Features) else label.parts
        dim = label.dim if isinstance(label, Features) else -1
        if any(width(parts) != tensor.shape[dim] for parts in sizes):  # broadcast, say
            self.need([label], f"{self.where()} changes how often it stands in a dimension")
            return
        self.labels[id(tensor)] = (tensor, label)

    def need(self, labels: Iterable[Label], reason: str) -> frozenset[Axis]:
        """Every neuron of these labels is needed, for that reason; returns their axes."""
        axes = frozenset(axis for label in labels for axis in axes_of(label))
        for axis in axes:
            axis.reasons.append(reason)
        return axes

    def meet(self, a: Parts, b: Parts, reason: str) -> Parts | None:
        """Neurons side by side become the same ones; None, for that reason, if they cannot."""
        if [size for _, size in a] != [size for _, size in b]:
            self.need([Features(-1, a), Features(-1, b)], reason)
            return None
        met: list[tuple[Axis | None, int]] = []
        for (one, size), (other, _) in zip(a, b, strict=True):
            if one is not None and other is not None:
                met.append((unite(one, other), size))
            else:
                self.need([Features(-1, ((one or other, size),))], reason)
                met.append((None, size))
        return tuple(met)

    def flat(self, label: Label) -> Features | None:
        """Stacked states as features: all layers and directions lose the same neurons."""
        if isinstance(label, Features):
            return label
        parts: Parts | None = label.parts[0]
        for other in label.parts[1:]:
            if parts is not None:
                parts = self.meet(parts, other, f"{self.where()} reads stacked states")
        return None if parts is None else Features(-1, parts)

    def where(self) -> str:
        """The module that is running, in words."""
        name = self.path[-1]
        kind = type(self.model.get_submodule(name)).__name__
        return f"module {name!r} ({kind})" if name else f"the model's own forward ({kind})"

    def role(self, name: str, role: Role) -> None:
        """Note how a parameter is used; what two uses say of a dimension becomes the same."""
        self.used.add(name)
        known = self.roles.setdefault(name, role)
        if known is role:
            return
        reason = f"parameter {name!r} is used in two ways, the second by {self.where()}"
        tied = known.lookup != role.lookup and "{0} <- {1}" in (known.form, role.form)
        same = (known.form, known.blocks) == (role.form, role.blocks)
        if not (same or tied) or len(known.dimensions) != len(role.dimensions):
            for dimension in (*known.dimensions, *role.dimensions):
                self.need([Features(-1, dimension)], reason)
            return
        pairs = zip(known.dimensions, role.dimensions, strict=True)
        met = tuple(self.meet(a, b, reason) or ((None, width(a)),) for a, b in pairs)
        form = "{0} <- {1}" if tied else known.form
        self.roles[name] = Role(form, met, known.blocks, known.lookup and role.lookup)


def width(parts: Parts) -> int:
    """How many positions of a dimension the parts take."""
    return sum(size for _, size in parts)


def axes_in(parts: Parts) -> list[Axis]:
    """The axes of the parts, each in the name of all that were united with it."""
    return [root(axis) for axis, _ in parts if axis is not None]


def axes_of(label: Label) -> list[Axis]:
    if isinstance(label, Features):
        return axes_in(label.parts)
    return [axis for parts in label.parts for axis in axes_in(parts)]


def _name(func: Any) -> str:
    """One name for a function, its method, its in-place form and its operator."""
    name: str = getattr(func, "__name__", "") or repr(func)
    if name in ("__get__", "__set__"):
        return f"{getattr(func.__self__, '__name__', '')}.{name.strip('_')}"
    return name.strip("_") if name.startswith("__") else name.rstrip("_") or name
