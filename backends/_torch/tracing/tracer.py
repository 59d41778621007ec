"""Follows neurons through one run of a model, one call of a torch function after the other.

Every tensor that carries neurons has a label (`labels`), which says which of its dimensions runs
over which axes. For each call with a labelled argument the tracer applies the propagation rule of
that function (`rules`), which labels the result. If there is no rule, or the rule does not cover
the call, the axes of the arguments are frozen: all their neurons are kept, and the reason is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate.backends._torch.computed_weights import advice
from l0gate.backends._torch.kept_state import held_tensors
from l0gate.backends._torch.pytree import Inputs, returned_tensors, tensors
from l0gate.backends._torch.shrinking.ragged import RaggedRNN
from l0gate.backends._torch.tracing.labels import (
    Axis,
    Features,
    Label,
    Parts,
    StackedStates,
    Use,
    axes_of,
    bounds_of,
    cut,
    resolve,
    root,
    unite,
    unpruned,
    width,
)
from l0gate.backends._torch.tracing.sizes import Size, mark_sizes, sizes_in
from l0gate.backends._torch.tracing.unlabelled import Unlabelled


@dataclass(frozen=True)
class Call:
    """One call of a torch function, with the labels of the tensors that it was given."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[Tensor]  # all tensors among the arguments
    labels: dict[int, Label]  # by position in `given`
    out: Any
    #: `Unlabelled.constant_dims` of the arguments before the call, by id.
    constants: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def constant_along(self, tensor: Tensor, dim: int) -> bool:
        """Whether the code made an argument constant along a dimension (negative)."""
        return dim in self.constants.get(id(tensor), ())

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that may be positional or named."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def features(self) -> Features | None:
        """The label of the first tensor if that is a `Features` label, else None."""
        return self.features_of(0)

    def features_of(self, position: int) -> Features | None:
        """The label of `given[position]` if that is a `Features` label, else None."""
        label = self.labels.get(position)
        return label if isinstance(label, Features) else None


#: A rule labels `call.out` and returns None. If it does not cover the call, it returns a phrase for
#: the reason, which becomes "module 'norm' (LayerNorm) uses its neurons in <phrase>".
Rule = Callable[["Trace", Call], str | None]
#: The rule of a layer with parameters, such as `linear`. Its third argument are the untracked axes
#: of the inputs: the inputs depend on their neurons in a way that no label describes. The rule
#: returns the untracked axes of the result.
LayerRule = Callable[["Trace", Call, frozenset[Axis]], frozenset[Axis]]


@dataclass(frozen=True)
class Rules:
    """The rules of all torch functions that are followed, by name."""

    layers: Mapping[str, LayerRule]
    calls: Mapping[str, Rule]
    products: frozenset[str]  # products that read a parameter, whether neurons go in or not
    elementwise: frozenset[str]  # functions that work position by position
    queries: frozenset[str]  # functions that read sizes or dtypes of a tensor, never its values
    activations: frozenset[str]  # those that a chain (`l0gate._chain`) may contain


class Trace(TorchFunctionMode):
    """Follows the torch calls of one run of `model`; collects axes and uses of parameters."""

    def __init__(self, model: nn.Module, rules: Rules) -> None:
        super().__init__()
        mark_sizes(model)
        self.model = model
        self.rules = rules
        # Buffers outside the state_dict are left out: a file of the small model would lack them.
        saved = model.state_dict(keep_vars=True)
        buffers = [(name, b) for name, b in model.named_buffers() if name in saved]
        named = [*model.named_parameters(), *buffers]
        self.names = {id(tensor): name for name, tensor in named}
        # What the model holds in buffers and plain attributes, by id, and what the dimensions of
        # those that are combined with neurons run over, by name.
        self.held = {id(t): name for name, t in held_tensors(model).items()}
        self.held |= {id(t): name for name, t in model.named_buffers()}
        self.unlabelled = Unlabelled(rules.elementwise)
        self.held_parts: dict[str, tuple[Parts, ...]] = {}
        # Labels are stored with their tensor: it stays alive, so that no other tensor gets its id.
        self.labels: dict[int, tuple[Tensor, Label]] = {}
        # Tensors computed from neurons of these axes in a way that no label describes.
        self.untracked: dict[int, tuple[Tensor, frozenset[Axis]]] = {}
        # By writing parameter and its dimension: a tied parameter may write along both.
        self.axes: dict[tuple[str, int], Axis] = {}
        self.uses: dict[str, Use] = {}  # by parameter name
        self.times: dict[str, int] = {}  # how often each parameter was used
        self.described: set[str] = set()  # parameters whose use was recorded in the present call
        self.other_uses: dict[str, str] = {}  # parameters used in ways without a rule, and where
        self.recurrent: set[str] = set()  # recurrent modules whose neurons have axes
        self.ungated: dict[str, str] = {}  # recurrent modules that cannot be gated, and why
        self.layers: list[dict[str, Any]] = []  # the calls, as the description of a chain
        self.depth = 0  # how many recurrent layers have been found
        self.path: list[str] = [""]  # the modules that are running, the innermost last
        self.called: set[str] = set()  # modules that have run
        self.touched: set[str] = set()  # parameters that were an argument of any call
        self.states: dict[int, Tensor] = {}  # what recurrent cells returned

    def run(self, inputs: Inputs) -> None:
        """Run the model under this trace, then mark the axes that it returns to the caller."""
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks; the trial with random gates shows if it reads neurons
            handles.append(module.register_forward_pre_hook(self._enter(name), prepend=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with self:
                out = self.model(*inputs[0], **inputs[1])
        finally:
            for handle in handles:
                handle.remove()
        returned = list(returned_tensors(out))
        # Returned states may shrink with their layer: they freeze no axis, unless the model returns
        # nothing else.
        others = [t for t in returned if not self._is_state(t)]
        for tensor in others or returned:
            label = self.label_of(tensor)
            for axis in [] if label is None else axes_of(label):
                axis.returned = True

    def _is_state(self, tensor: Tensor) -> bool:
        return id(tensor) in self.states or isinstance(self.label_of(tensor), StackedStates)

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
        # Labels are looked up before the call, since an in-place call relabels its argument.
        labels = {i: known for i, t in enumerate(given) if (known := self.label_of(t)) is not None}
        untracked = frozenset[Axis]().union(*(self.untracked_of(t) for t in given))
        self.touched |= {self.names[id(t)] for t in given if id(t) in self.names}
        constants = {id(t): self.unlabelled.constant_dims(t) for t in given}
        sizes = list(sizes_in((args, kwargs)))
        out = func(*args, **kwargs)
        call = Call(_name(func), args, kwargs, given, labels, out, constants)
        if not labels or call.name.startswith("new_"):
            self.unlabelled.follow(call.name, given, out, constants, self.held | self.names)
            self.unlabelled.note_sizes(given, out, sizes)
        if call.name in self.rules.queries or call.name.startswith("is_"):
            return out
        if call.name in self.rules.activations:
            self.layers.append({"type": "activation", "function": call.name})
        self.described = set()
        if call.name in self.rules.layers:
            untracked = self.rules.layers[call.name](self, call, untracked)
        else:
            if labels or (call.name in self.rules.products and self._reads(given)):
                untracked |= self._propagate(call)
                self._bind_sizes(call, sizes)
            for tensor in given:
                name = self.names.get(id(tensor))
                if name is not None and name not in self.described:
                    self.other_uses[name] = (
                        f"{self.where()} uses the parameter {name!r} in {call.name}, which l0gate"
                        " cannot follow for a parameter"
                    )
        if untracked:
            for tensor in tensors(out):
                self.untracked[id(tensor)] = (tensor, untracked | self.untracked_of(tensor))
        return out

    def _reads(self, given: list[Tensor]) -> bool:
        """Whether the last factor of a product is a parameter."""
        return len(given) > 1 and id(given[-1]) in self.names and given[-1].dim() == 2

    def _bind_sizes(self, call: Call, sizes: list[Size]) -> None:
        """Note which attributes of the model hold sizes of the axes that a call works on."""
        # A number that scales neurons, as in `y / self.hidden`, is no size of a dimension.
        scales = call.name in self.rules.elementwise and call.name != "expand"
        sizes = [] if scales else sizes
        sizes = sizes + [
            size
            for i, tensor in enumerate(call.given)
            if i not in call.labels
            for size in self.unlabelled.sizes_of(tensor)
        ]
        if not sizes:
            return
        for tensor in [*tensors(call.out), *call.given]:
            label = self.label_of(tensor)
            for axis in [] if label is None else axes_of(label):
                axis.sizes |= {size.name for size in sizes if size.base == axis.size}

    def read_unlabelled(self, x: Tensor, dim: int) -> Parts:
        """What the features of a tensor without a label run over, for a parameter that reads them.

        A constant, such as the zeros of a first state, may stand for any neurons of that number. It
        gets an axis of its own, which may be united with others later. So does what the model
        holds.
        """
        size = x.shape[dim]
        constant = dim in self.unlabelled.constant_dims(x) and size > 1
        known = {id(t) for t in self.unlabelled.sources_of(x)} & {*self.held, *self.names}
        if not constant and not (known and dim == -1):
            return unpruned(size)
        axis = Axis(size)
        axis.sizes |= {s.name for s in self.unlabelled.sizes_of(x) if s.base == size}
        parts: Parts = ((axis, size),)
        if known:
            self.record_unlabelled(x, dim, parts)
        return parts

    def _propagate(self, call: Call) -> frozenset[Axis]:
        """Apply the rule of a call that is not a layer; returns the axes that this freezes."""
        rule = self.rules.calls.get(call.name)
        how = f"{call.name}, which l0gate cannot follow" if rule is None else rule(self, call)
        return frozenset() if how is None else self.freeze_in(call.labels.values(), how)

    # What rules use ---------------------------------------------------------------------------

    def label_of(self, tensor: Any) -> Label | None:
        if id(tensor) not in self.labels:
            return None
        label = self.labels[id(tensor)][1]
        return Features(label.dim, resolve(label.parts)) if isinstance(label, Features) else label

    def untracked_of(self, tensor: Tensor) -> frozenset[Axis]:
        return self.untracked[id(tensor)][1] if id(tensor) in self.untracked else frozenset()

    def label(self, tensor: Tensor, label: Label) -> None:
        """Label a tensor; freeze the axes if its dimensions do not have the sizes of the label."""
        sizes = [label.parts] if isinstance(label, Features) else label.parts
        dim = label.dim if isinstance(label, Features) else -1
        if any(width(parts) != tensor.shape[dim] for parts in sizes):
            self.freeze_in([label], "an operation that changes the size of their dimension")
            return
        self.labels[id(tensor)] = (tensor, label)

    def freeze(self, labels: Iterable[Label], reason: str) -> frozenset[Axis]:
        """Freeze the axes of these labels; note the reason, and return the axes."""
        axes = frozenset(axis for label in labels for axis in axes_of(label))
        for axis in axes:
            axis.reasons.append(reason)
        return axes

    def freeze_in(self, labels: Iterable[Label], how: str) -> frozenset[Axis]:
        """Freeze the axes of these labels, with the module that is running and `how` as reason."""
        return self.freeze(labels, f"{self.where()} uses its neurons in {how}")

    def unite_parts(self, a: Parts, b: Parts, reason: str) -> Parts | None:
        """Unite the axes of two dimensions whose neurons must be pruned together, block by block.

        Returns the blocks of the united dimension. An axis opposite a block without an axis is
        frozen, for `reason`. If the blocks differ in size, all axes are frozen and the result is
        None.
        """
        if width(a) == width(b):
            bounds = {*bounds_of(a), *bounds_of(b)}
            first, second = cut(a, bounds), cut(b, bounds)
            # Cutting one may have cut the other, if both hold the same axis.
            a, b = (resolve(part) for part in (first or a, second or b))
        if width(a) != width(b) or bounds_of(a) != bounds_of(b):
            self.freeze([Features(-1, a), Features(-1, b)], reason)
            return None
        united: list[tuple[Axis | None, int]] = []
        for (one, size), (other, _) in zip(a, b, strict=True):
            if one is not None and other is not None and root(one).size == root(other).size:
                united.append((unite(one, other), size))
            else:
                self.freeze([Features(-1, ((axis, size),)) for axis in (one, other)], reason)
                united.append((None, size))
        return tuple(united)

    def features_from(self, label: Label) -> Features | None:
        """The label as `Features`. For stacked states, all layers and directions are united.

        They then keep the same neurons. If their sizes differ, their axes are frozen and the result
        is None.
        """
        if isinstance(label, Features):
            return label
        reason = f"{self.where()} uses its neurons in an operation on stacked states of all layers"
        parts: Parts | None = label.parts[0]
        for other in label.parts[1:]:
            if parts is not None:
                parts = self.unite_parts(parts, other, reason)
        return None if parts is None else Features(-1, parts)

    def where(self) -> str:
        """The module that is running, in words."""
        name = self.path[-1]
        kind = type(self.model.get_submodule(name)).__name__
        return f"module {name!r} ({kind})" if name else f"the model's own forward ({kind})"

    def way_round(self) -> str:
        """How to make parameters of the computed weights of the module that is running."""
        return advice(self.path[-1], self.model.get_submodule(self.path[-1]))

    def record_use(self, name: str, use: Use) -> None:
        """Record how the parameter `name` is used.

        If it was used before, such as a tied weight, the axes of both uses are united.
        """
        self.described.add(name)
        self.times[name] = self.times.get(name, 0) + 1
        known = self.uses.setdefault(name, use)
        if known is use:
            return
        reason = f"parameter {name!r} is used in two different ways, the second by {self.where()}"
        tied = known.lookup != use.lookup and "{0} <- {1}" in (known.form, use.form)
        same = (known.form, known.blocks) == (use.form, use.blocks)
        if not (same or tied) or len(known.dimensions) != len(use.dimensions):
            for dimension in (*known.dimensions, *use.dimensions):
                self.freeze([Features(-1, dimension)], reason)
            return
        pairs = zip(known.dimensions, use.dimensions, strict=True)
        dimensions = tuple(self.unite_parts(a, b, reason) or unpruned(width(a)) for a, b in pairs)
        form = "{0} <- {1}" if tied else known.form
        self.uses[name] = Use(form, dimensions, known.blocks, known.lookup and use.lookup)

    def record_unlabelled(self, tensor: Tensor, dim: int, parts: Parts) -> bool:
        """Record that dimension `dim` of a tensor without a label runs over `parts`.

        The tensor is a parameter, a tensor that the model holds, or computed from such tensors.
        These are then made small with the neurons. Returns whether the tensor is one of them.
        """
        found = self.unlabelled.sources_of(tensor) if dim == -1 else (tensor,)
        found = tuple(t for t in found if id(t) in self.names or id(t) in self.held)
        for source in found:
            name = self.names.get(id(source))
            if name is None:
                self._record_held(source, dim, parts)
                continue
            dimensions: list[Parts] = [unpruned(n) for n in source.shape]
            dimensions[dim] = parts
            form = " ".join(f"{{{k}}}" for k in range(len(dimensions)))
            self.record_use(name, Use(form, tuple(dimensions)))
            self.other_uses.pop(name, None)
        return bool(found)

    def record_held(self, tensor: Tensor, dim: int, parts: Parts) -> None:
        """Record that dimension `dim` of a tensor runs over `parts`, if the model holds it.

        It is then made small with the neurons.
        """
        for source in self.unlabelled.sources_of(tensor) if dim == -1 else (tensor,):
            if id(source) in self.held:
                self._record_held(source, dim, parts)

    def _record_held(self, tensor: Tensor, dim: int, parts: Parts) -> None:
        name = self.held[id(tensor)]
        own = [unpruned(size) for size in tensor.shape]
        own[dim] = parts
        known = self.held_parts.setdefault(name, tuple(own))
        reason = f"{name!r} is used in two different ways, the second by {self.where()}"
        pairs = zip(known, own, strict=True)
        self.held_parts[name] = tuple(
            self.unite_parts(a, b, reason) or unpruned(width(a)) for a, b in pairs
        )


def _name(func: Any) -> str:
    """The name of a torch function; the same for its method, in-place form and operator."""
    name: str = getattr(func, "__name__", "") or repr(func)
    if name in ("__get__", "__set__"):
        return f"{getattr(func.__self__, '__name__', '')}.{name.strip('_')}"
    return name.strip("_") if name.startswith("__") else name.rstrip("_") or name
