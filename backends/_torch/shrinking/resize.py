"""Puts small arrays into a copy of the dense model, and sets the sizes of its modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from l0gate._certificate import Certificate
from l0gate._chain import Chain
from l0gate._errors import check
from l0gate.backends._torch.kept_state import Held, change_held
from l0gate.backends._torch.prunable_norm import PrunableLayerNorm
from l0gate.backends._torch.pytree import named_tensors
from l0gate.backends._torch.recurrent_axes import StateAxes, cell_blocks
from l0gate.backends._torch.shrinking.dense_adapters import (
    KeptPerLayer,
    ReduceInput,
    ReduceStates,
)
from l0gate.backends._torch.shrinking.ragged import CELLS, RaggedRNN
from l0gate.layout.fold import positions
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Pattern, parse_pattern

Kept = Mapping[str, np.ndarray]  # axis -> the sorted indices of the neurons kept
_ORIGIN = "l0gate_origin"  # attribute of a small model


@dataclass(frozen=True)
class Origin:
    """What a small model remembers of its pruning.

    `kept` maps each axis to the indices of the neurons kept, `dense_sizes` to its size in the dense
    model. `ragged` holds the paths of the recurrent modules that became a `RaggedRNN`.
    """

    layout: Layout
    kept: Kept
    dense_sizes: Mapping[str, int]
    chain: Chain | None = None
    ragged: tuple[str, ...] = ()
    held: Held = field(default_factory=Held)


def origin_of(model: nn.Module) -> Origin | None:
    """The `Origin` that `resize` stored in a small model; None for any other model."""
    origin = getattr(model, _ORIGIN, None)
    return origin if isinstance(origin, Origin) else None


def attach_certificate(small: nn.Module, certificate: Certificate | None) -> None:
    """Set `small.certificate`."""
    small.certificate = certificate  # type: ignore[assignment]


def resize(
    model: nn.Module,
    arrays: Mapping[str, Tensor],
    origin: Origin,
    state_axes: Mapping[str, StateAxes],
    *,
    accepts_states: Callable[[str], bool] = lambda path: True,
) -> nn.Module:
    """Make `model`, a copy of the dense one, small. Returns it, or the module that replaces it.

    `arrays` are the small arrays of the layout, and `state_axes` are those of `recurrent_axes`.
    Recurrent modules of unequal sizes become a `RaggedRNN`. Others keep their class. If
    `accepts_states(path)` is true, they get a hook that accepts initial states of the dense size.
    """
    before = dict(model.named_modules())
    stacks = {path: part for path, part in before.items() if isinstance(part, RaggedRNN)}
    cells = {cell for stack in stacks.values() for cell in stack.cells}
    changed = _replace_tensors(model, arrays)
    _reduce_held(model, origin)
    ragged = []
    for path, module in before.items():
        if module not in changed:
            continue
        kept = [
            [(origin.kept[axis], origin.dense_sizes[axis]) for axis in own]
            for own in state_axes.get(path, ())
        ]
        small = module
        if any(len({len(index) for index, _ in own}) > 1 for own in kept):
            small = _ragged(path, module, kept)
            model = _put(model, module, small)
            ragged.append(path)
        else:
            _update_sizes(module)
            smaller = any(len(index) < dense for own in kept for index, dense in own)
            if smaller and module not in cells and accepts_states(path):
                module.register_forward_pre_hook(ReduceStates(*kept), with_kwargs=True)
        _reduce_input(path, small, origin)
    for path, stack in stacks.items():
        if changed.intersection(stack.cells):
            stack.note_shrunk_cells(*_kept_of_cells(path, stack, state_axes, origin))
    model.zero_grad()  # the copy came with the gradients of the dense model
    setattr(model, _ORIGIN, replace(origin, ragged=tuple(ragged)))
    return model


def _kept_of_cells(
    path: str, stack: RaggedRNN, state_axes: Mapping[str, StateAxes], origin: Origin
) -> tuple[KeptPerLayer, KeptPerLayer]:
    """The neurons kept of h and of c, for every cell of a `RaggedRNN` that is pruned again."""
    prefix = f"{path}." if path else ""
    kept: tuple[list[tuple[np.ndarray, int]], list[tuple[np.ndarray, int]]] = ([], [])
    for i, sizes in enumerate(zip(stack.output_sizes, stack.hidden_sizes, strict=True)):
        own = state_axes.get(f"{prefix}cells.{i}")
        for k, (found, size) in enumerate(zip(kept, sizes, strict=True)):
            if own is None:  # not gated
                found.append((np.arange(size), size))
            else:
                (axis,) = own[min(k, len(own) - 1)]
                found.append((origin.kept[axis], origin.dense_sizes[axis]))
    return kept


def _replace_tensors(model: nn.Module, arrays: Mapping[str, Tensor]) -> set[nn.Module]:
    """Put the arrays in place of the dense tensors; returns the modules that hold one of them.

    A tensor that several modules share is replaced in all of them.
    """
    old = named_tensors(model)
    new: dict[int, Tensor] = {}
    for name, array in arrays.items():
        check(
            isinstance(array, Tensor),
            f"the slices of {name!r} keep unequal sizes, which one torch tensor cannot hold",
        )
        tensor = old[name]
        array = array.detach()
        new[id(tensor)] = (
            nn.Parameter(array, requires_grad=tensor.requires_grad)
            if isinstance(tensor, nn.Parameter)
            else array
        )
    changed = set()
    for module in model.modules():
        own = [*module._parameters.items(), *module._buffers.items()]
        for key, current in own:
            if id(current) in new:
                setattr(module, key, new[id(current)])
                changed.add(module)
    return changed


def _reduce_held(model: nn.Module, origin: Origin) -> None:
    """Make buffers and held tensors small that run over axes, as `Held.patterns` says.

    A tensor that has another size than the pattern says is not changed.
    """

    def reduced(name: str, tensor: Tensor) -> Tensor:
        text = origin.held.patterns.get(name)
        pattern = parse_pattern(text) if text else None
        if pattern is None or len(pattern.dimensions) != tensor.dim():
            return tensor
        every = {axis: np.arange(size) for axis, size in origin.dense_sizes.items()}
        for dim, dimension in enumerate(pattern.dimensions):
            if dimension.axes and tensor.shape[dim] == len(
                positions(dimension, origin.dense_sizes, every)
            ):
                index = positions(dimension, origin.dense_sizes, origin.kept)
                tensor = tensor.index_select(dim, torch.as_tensor(index, device=tensor.device))
        return tensor

    for name, axis in origin.held.sizes.items():
        path, _, key = name.rpartition(".")
        module = model.get_submodule(path)
        if vars(module).get(key) == origin.dense_sizes.get(axis):
            module.__dict__[key] = len(origin.kept[axis])
    change_held(model, reduced)
    for path, module in model.named_modules():
        for key, buffer in module._buffers.items():
            name = f"{path}.{key}".lstrip(".")
            if buffer is not None and origin.held.patterns.get(name):
                module._buffers[key] = reduced(name, buffer)


def _update_sizes(module: nn.Module) -> None:
    """Set the attributes that hold sizes, such as `in_features`, to those of the parameters."""
    if isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, (nn.Conv1d, nn.Conv2d)):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, PrunableLayerNorm):
        module.normalized_shape = (module.scale.shape[-1],)
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_features = len(next(t for _, t in named_tensors(module).items() if t.dim()))
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        suffix = "_l0" if isinstance(module, nn.RNNBase) else ""
        module.input_size = module.get_parameter(f"weight_ih{suffix}").shape[1]
        weight = module.get_parameter(f"weight_hh{suffix}")
        module.hidden_size = len(weight) // cell_blocks(module)
        if isinstance(module, nn.RNNBase) and module.proj_size:
            module.proj_size = weight.shape[1]


def _ragged(path: str, module: nn.Module, kept: Sequence[KeptPerLayer]) -> RaggedRNN:
    """A `RaggedRNN` with the parameters and hooks of the module."""
    assert isinstance(module, nn.RNNBase)
    check(
        type(module) in CELLS.values(),
        f"module {path!r} is a {type(module).__name__}, whose layers keep unequal numbers of"
        " neurons; only torch's own classes can become a RaggedRNN, so gate it with"
        " `equal=True` or call `shrink(equal=True)`",
    )
    weights = dict(module.named_parameters())
    first = weights["weight_ih_l0"]
    ragged = RaggedRNN(
        module.mode,
        [len(index) for index, _ in kept[-1]],
        first.shape[1],
        num_layers=module.num_layers,
        bias=module.bias,
        batch_first=module.batch_first,
        dropout=module.dropout,
        bidirectional=module.bidirectional,
        kept=kept[0],
        kept_cells=kept[-1],
        proj_sizes=[len(index) for index, _ in kept[0]] if module.proj_size else None,
        device="meta",  # every parameter is replaced below
    )
    for name, own in ragged.stock_names().items():
        cell, _, key = own.rpartition(".")
        setattr(ragged.get_submodule(cell), key, weights[name])
    for name in _HOOKS:
        getattr(ragged, name).update(getattr(module, name))
    return ragged.train(module.training)


# The attributes in which `nn.Module` keeps the hooks of its calls.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Replace `old` by `new` wherever it is in the model; returns the model, which may be `new`."""
    if model is old:
        return new
    for module in list(model.modules()):
        for key, child in list(module._modules.items()):
            if child is old:
                setattr(module, key, new)
    return model


def _reduce_input(path: str, module: nn.Module, origin: Origin) -> None:
    """Let a module that reads pruned features of the model's own inputs take all of them.

    A hook selects the features that are still read.
    """
    key, dim = "weight", -1
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        dim = -2 if isinstance(module, nn.Conv1d) else -3
    if isinstance(module, (nn.RNNBase, RaggedRNN)):
        key = "weight_ih_l0"
    elif isinstance(module, nn.RNNCellBase):
        key = "weight_ih"
    elif isinstance(module, nn.Embedding):
        return
    pattern = origin.layout.patterns.get(f"{path}.{key}" if path else key)
    if not isinstance(pattern, Pattern) or pattern.arrow != "<-":
        return
    read = next(dimension for dimension in pattern.dimensions if dimension.reads)
    if any(not origin.layout.writers(axis) for axis in read.axes):
        every = {axis: np.arange(size) for axis, size in origin.dense_sizes.items()}
        dense = len(positions(read, origin.dense_sizes, every))
        index = positions(read, origin.dense_sizes, origin.kept)
        if len(index) < dense:
            module.register_forward_pre_hook(ReduceInput(index, dense, dim))
