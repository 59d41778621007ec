"""From a dense module and small arrays to the small module, and to what a file holds of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0gate._certificate import Certificate
from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._registry import get_backend
from l0gate._saved_model import SavedModel
from l0gate.backends._torch.pytree import copied
from l0gate.backends._torch.shrinking.ragged import (
    CELLS,
    RaggedRNN,
    ReduceInput,
    ReduceStates,
    ends,
    stock_names,
)
from l0gate.layout.fold import positions
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Pattern

Kept = Mapping[str, np.ndarray]
_ORIGIN = "l0gate_origin"  # attribute of a small model


@dataclass(frozen=True)
class Origin:
    """What a small model remembers of the dense one."""

    layout: Layout
    kept: Kept
    dense_sizes: Mapping[str, int]
    chain: Chain | None = None
    ragged: tuple[str, ...] = ()  # the recurrent modules that became a `RaggedRNN`


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers; one that several modules share goes by its first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


StateKept = list[tuple[np.ndarray, int]]  # per layer and direction: who stayed, of how many
StateAxes = tuple[tuple[str, ...], ...]  # for each kind of state (h, and c), in state order


def recurrent_axes(model: nn.Module, layout: Layout) -> dict[str, StateAxes]:
    """For every recurrent module whose hidden neurons the layout names: the axes of its states.

    The h and c of an LSTM run over the same neurons, unless it has a projection.
    """
    found: dict[str, StateAxes] = {}
    for path, module in model.named_modules():
        if not isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, nn.RNNCellBase)):
            continue
        prefix = f"{path}." if path else ""
        own = [prefix + name for name, _ in module.named_parameters()]
        suffixes = [""]
        if isinstance(module, nn.RNNBase):
            suffixes = [f"_{end}" for end in ends(module.num_layers, module.bidirectional)]
        hidden = [f"{prefix}weight_hh{suffix}" for suffix in suffixes]
        if not set(hidden) & set(layout.patterns):
            continue
        missing = [name for name in own if name not in layout.patterns]
        check(
            not missing,
            f"the layout names {hidden[0]!r}, so it must name every parameter of module {path!r};"
            f" missing: {', '.join(missing)}",
        )
        pairs = [_hidden_axes(layout, name, module) for name in hidden]
        h, c = (tuple(axes) for axes in zip(*pairs, strict=True))
        found[path] = (h, c) if isinstance(module, (nn.LSTM, nn.LSTMCell)) else (h,)
    return found


def equal_groups(
    model: nn.Module, layout: Layout, *, every: bool = True
) -> tuple[tuple[str, ...], ...]:
    """The axes that must keep one count so that every recurrent module stays what it is.

    Without `every`, only for classes of the user's own, which cannot be taken apart.
    """
    groups: list[tuple[str, ...]] = []
    for path, states in recurrent_axes(model, layout).items():
        stock = type(model.get_submodule(path)) in CELLS.values()
        for axes in states if every or not stock else ():
            shared = [group for group in groups if set(group) & set(axes)]
            groups = [group for group in groups if group not in shared]
            groups.append(tuple(dict.fromkeys(axis for group in [*shared, axes] for axis in group)))
    return tuple(groups)


def gate_count(module: nn.Module) -> int:
    """How many blocks over the hidden neurons a recurrent module's weights hold."""
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return 4
    return 3 if isinstance(module, (nn.GRU, nn.GRUCell)) else 1


def _hidden_axes(layout: Layout, name: str, module: nn.Module) -> tuple[str, str]:
    """The axis that is fed back, and that of the gates."""
    pattern = layout.patterns[name]
    blocks = gate_count(module)
    projected = getattr(module, "proj_size", 0) > 0
    if isinstance(pattern, Pattern) and pattern.arrow == "<-":
        written, read = (dimension.blocks for dimension in pattern.dimensions)
        back = read[0].axis if len(read) == 1 else None
        own = written[0].axis if len(written) == 1 else None
        if (
            back
            and own
            and (projected or back == own)
            and (written, read) == ((Block(own, blocks),), (Block(back),))
        ):
            return back, own
    kind = getattr(module, "mode", type(module).__name__)
    needed = f"({blocks} h)" if blocks > 1 else "h"
    raise L0GateError(
        f"the layout of {name!r} is {layout.to_dict()[name]!r}; torch's {kind} needs"
        f" '{needed} <- {'p' if projected else 'h'}', with an axis in place of"
        f" {'h and p' if projected else 'h'}"
    )


def room_for_projections(
    model: nn.Module, layout: Layout, kept: Kept, sizes: Mapping[str, int], groups: Sequence[Any]
) -> dict[str, np.ndarray]:
    """`kept`, with closed neurons added where an LSTM would project to as many as it has.

    PyTorch tells a projection by its size, which must be below the hidden size.
    """
    kept = dict(kept)
    pairs = [
        (p, h)
        for states in recurrent_axes(model, layout).values()
        for p, h in zip(states[0], states[-1], strict=True)
        if p != h
    ]
    while short := [(p, h) for p, h in pairs if len(kept[h]) <= len(kept[p])]:
        for p, h in short:
            count = len(kept[p]) + 1
            for axis in {h}.union(*(group for group in groups if h in group)):
                closed = np.setdiff1d(np.arange(sizes[axis]), kept[axis])
                more = closed[: max(0, count - len(kept[axis]))]
                kept[axis] = np.sort(np.concatenate([kept[axis], more]))
    return kept


def resize(
    model: nn.Module,
    arrays: Mapping[str, Tensor],
    origin: Origin,
    *,
    reduces: Callable[[str], bool] = lambda path: True,
) -> nn.Module:
    """Make `model`, a copy of the dense one, small: returns it, or what takes its place.

    `arrays` are the small ones of the layout. Recurrent modules of unequal sizes become
    `RaggedRNN`; others stay what they are, and accept states of the dense size where
    `reduces(path)`.
    """
    axes = recurrent_axes(model, origin.layout)
    before = dict(model.named_modules())
    stacks = {path: part for path, part in before.items() if isinstance(part, RaggedRNN)}
    cells = {cell for stack in stacks.values() for cell in stack.cells}
    changed = _replace_tensors(model, arrays)
    ragged = []
    for path, module in before.items():
        if module not in changed:
            continue
        kept = [
            [(origin.kept[axis], origin.dense_sizes[axis]) for axis in own]
            for own in axes.get(path, ())
        ]
        small = module
        if any(len({len(index) for index, _ in own}) > 1 for own in kept):
            small = _ragged(path, module, kept)
            model = _put(model, module, small)
            ragged.append(path)
        else:
            _update_sizes(module)
            lost = any(len(i) < dense for own in kept for i, dense in own)
            if lost and module not in cells and reduces(path):
                module.register_forward_pre_hook(ReduceStates(*kept), with_kwargs=True)
        _reduce_input(path, small, origin)
    for path, stack in stacks.items():
        if changed.intersection(stack.cells):
            stack.lose(*_kept_of_cells(path, stack, axes, origin))
    model.zero_grad()  # gradients of the dense model came with the copy
    setattr(model, _ORIGIN, replace(origin, ragged=tuple(ragged)))
    return model


def _kept_of_cells(
    path: str, stack: RaggedRNN, axes: Mapping[str, StateAxes], origin: Origin
) -> tuple[StateKept, StateKept]:
    """What has stayed of h and of c in every cell of a stack that was ragged before."""
    prefix = f"{path}." if path else ""
    kept: tuple[StateKept, StateKept] = ([], [])
    for i, sizes in enumerate(zip(stack.output_sizes, stack.hidden_sizes, strict=True)):
        own = axes.get(f"{prefix}cells.{i}")
        for k, (found, size) in enumerate(zip(kept, sizes, strict=True)):
            if own is None:  # not gated
                found.append((np.arange(size), size))
            else:
                (axis,) = own[min(k, len(own) - 1)]
                found.append((origin.kept[axis], origin.dense_sizes[axis]))
    return kept


def _replace_tensors(model: nn.Module, arrays: Mapping[str, Tensor]) -> set[nn.Module]:
    """Put the arrays in place, wherever a tensor is shared; the modules that hold them."""
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


def _update_sizes(module: nn.Module) -> None:
    """The attributes that say how large the arrays are."""
    if isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_features = len(next(t for _, t in named_tensors(module).items() if t.dim()))
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        suffix = "_l0" if isinstance(module, nn.RNNBase) else ""
        module.input_size = module.get_parameter(f"weight_ih{suffix}").shape[1]
        weight = module.get_parameter(f"weight_hh{suffix}")
        module.hidden_size = len(weight) // gate_count(module)
        if isinstance(module, nn.RNNBase) and module.proj_size:
            module.proj_size = weight.shape[1]


def _ragged(
    path: str, module: nn.Module, kept: Sequence[Sequence[tuple[np.ndarray, int]]]
) -> RaggedRNN:
    assert isinstance(module, nn.RNNBase)
    check(
        type(module) in CELLS.values(),
        f"module {path!r} is a {type(module).__name__}, whose layers keep unequal numbers of"
        " neurons; only torch's own classes can be taken apart, so gate it with"
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
        device="meta",  # every parameter is put in its place below
    )
    for name, own in ragged.stock_names().items():
        cell, _, key = own.rpartition(".")
        setattr(ragged.get_submodule(cell), key, weights[name])
    for name in _HOOKS:
        getattr(ragged, name).update(getattr(module, name))
    return ragged.train(module.training)


# What `nn.Module` keeps of the hooks of its calls.
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
    """`new` wherever `old` stands in the model."""
    if model is old:
        return new
    for module in list(model.modules()):
        for key, child in list(module._modules.items()):
            if child is old:
                setattr(module, key, new)
    return model


def _reduce_input(path: str, module: nn.Module, origin: Origin) -> None:
    """A reader of the model's own inputs takes them in full and drops what is not read."""
    key, dim = "weight", -2 if isinstance(module, nn.Conv1d) else -1
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
        whole = {axis: np.arange(size) for axis, size in origin.dense_sizes.items()}
        dense = len(positions(read, origin.dense_sizes, whole))
        index = positions(read, origin.dense_sizes, origin.kept)
        if len(index) < dense:
            module.register_forward_pre_hook(ReduceInput(index, dense, dim))


def attach(small: nn.Module, certificate: Certificate | None) -> None:
    """`small.certificate`."""
    small.certificate = certificate  # type: ignore[assignment]


# Files ----------------------------------------------------------------------------------------


def describe(model: nn.Module) -> SavedModel:
    """What a file holds of a small model: every array, under the dense model's names."""
    origin = getattr(model, _ORIGIN, None)
    if not isinstance(origin, Origin):
        hint = "; call its `shrink()` first" if hasattr(model, "shrink") else ""
        raise L0GateError(
            f"`small` is a {type(model).__name__} that l0gate did not shrink{hint}: save what"
            " `shrink()` or `load(path, into=...)` returned"
        )
    backend = get_backend("torch")
    state = model.state_dict()
    parameters = {
        name: backend.to_numpy(_readable(state[own], origin)).copy()
        for name, own in stock_names(model, origin.ragged).items()
        if isinstance(state[own], Tensor)
    }
    layout, kept, sizes = origin.layout, dict(origin.kept), dict(origin.dense_sizes)
    if origin.chain is not None:
        # A chain knows axes that this layout may leave out, such as its input: they are whole.
        layout = origin.chain.layout
        for axis, size in layout.solve(parameters).items():
            kept.setdefault(axis, np.arange(size))
            sizes.setdefault(axis, size)
    return SavedModel(
        parameters=parameters,
        layout=layout,
        kept=kept,
        dense_sizes=sizes,
        chain=origin.chain,
        certificate=getattr(model, "certificate", None),
    )


def _readable(tensor: Tensor, origin: Origin) -> Tensor:
    """Half precision widened, without loss, where the file is to run as a NumPy net."""
    return tensor.float() if origin.chain and tensor.dtype == torch.float16 else tensor


def rebuild(model: Any, saved: SavedModel) -> nn.Module:
    """The small model that was saved, from a dense model of the same kind; that one is copied."""
    check(isinstance(model, nn.Module), f"`into` is {model!r}; it must be a model, or build one")
    dense = copied(model)
    _check_dense(dense, saved)
    origin = Origin(saved.layout, saved.kept, saved.dense_sizes, saved.chain)
    tensors = named_tensors(dense)
    arrays = {
        name: torch.tensor(saved.parameters[name]).to(tensors[name])
        for name in saved.layout.patterns
    }
    small = resize(dense, arrays, origin)
    own = stock_names(small, getattr(small, _ORIGIN).ragged)
    small.load_state_dict(
        {own[name]: torch.tensor(array) for name, array in saved.parameters.items()}
    )
    attach(small, saved.certificate)
    return small


def _check_dense(model: nn.Module, saved: SavedModel) -> None:
    kind = f"`into` is a {type(model).__name__}"
    # Not state_dict's own copies, which would hide that two names are one tensor.
    state = {n: t for n, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    lacking, extra = (
        sorted(set(saved.parameters) - set(state)),
        sorted(set(state) - set(saved.parameters)),
    )
    check(
        not lacking and not extra,
        f"{kind}, which is not the kind of model that was saved"
        + (f"; it lacks {', '.join(lacking)}" if lacking else "")
        + (f"; the file lacks {', '.join(extra)}" if extra else ""),
    )
    try:
        sizes: Mapping[str, int] | str = saved.layout.solve(named_tensors(model))
    except L0GateError as error:
        sizes = str(error)
    check(
        sizes == dict(saved.dense_sizes),
        f"{kind} of other sizes than the dense model that was pruned: its axes must have"
        f" {dict(saved.dense_sizes)}, found {sizes}",
    )
    pruned = {id(tensor) for name, tensor in state.items() if name in saved.layout.patterns}
    for name, array in saved.parameters.items():
        check(isinstance(array, np.ndarray), f"the file holds {name!r} in slices of unequal sizes")
        check(
            id(state[name]) in pruned or state[name].shape == array.shape,
            f"{kind} whose {name!r} has shape {tuple(state[name].shape)}; saved was {array.shape}",
        )
