"""What `l0gate.save` writes of a small model, and the small model that `l0gate.load` rebuilds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0gate._errors import L0GateError, check
from l0gate._registry import get_backend
from l0gate._saved_model import SavedModel
from l0gate.backends._torch.isolation import copied
from l0gate.backends._torch.kept_state import Held
from l0gate.backends._torch.pytree import named_tensors
from l0gate.backends._torch.recurrent_axes import recurrent_axes
from l0gate.backends._torch.shrinking.ragged import RaggedRNN
from l0gate.backends._torch.shrinking.resize import (
    Origin,
    attach_certificate,
    origin_of,
    resize,
)


def describe(model: nn.Module) -> SavedModel:
    """What `l0gate.save` writes of a small model; arrays have their names in the dense model."""
    origin = origin_of(model)
    if origin is None:
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
        # The chain may have axes that this layout leaves out, such as that of its input. These are
        # not pruned.
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
        held=origin.held.describe(),
    )


def _readable(tensor: Tensor, origin: Origin) -> Tensor:
    """The tensor as the file stores it: float32 in place of float16 if NumPy must run the net."""
    return tensor.float() if origin.chain and tensor.dtype == torch.float16 else tensor


def rebuild(model: Any, saved: SavedModel) -> nn.Module:
    """The small model that was saved, from a dense model of the same kind.

    The dense model is not changed: a copy is used.
    """
    check(isinstance(model, nn.Module), f"`into` is {model!r}; it must be a model, or build one")
    dense = copied(model)
    _check_dense(dense, saved)
    tensors, parameters = named_tensors(dense), saved.float_parameters()
    arrays = {
        name: torch.tensor(parameters[name]).to(tensors[name]) for name in saved.layout.patterns
    }
    held = Held(patterns=saved.held.get("patterns", {}), sizes=saved.held.get("sizes", {}))
    origin = Origin(saved.layout, saved.kept, saved.dense_sizes, saved.chain, held=held)
    small = resize(dense, arrays, origin, recurrent_axes(dense, saved.layout))
    resized = origin_of(small)
    own = stock_names(small, resized.ragged if resized is not None else ())
    for name in [name for name in held.patterns if name in saved.parameters]:
        path, _, key = own[name].rpartition(".")
        buffers = small.get_submodule(path)._buffers
        buffers[key] = torch.tensor(saved.parameters[name]).to(tensors[name])
    small.load_state_dict(
        {own[name]: torch.tensor(array) for name, array in saved.float_parameters().items()}
    )
    attach_certificate(small, saved.certificate)
    return small


def stock_names(module: nn.Module, ragged: Iterable[str]) -> dict[str, str]:
    """Maps the names in the dense model's `state_dict` to the names in that of the small `module`.

    They differ in `RaggedRNN`s only; `ragged` holds the paths of these modules.
    """
    names = {name: name for name in module.state_dict()}
    for path in ragged:
        part = module.get_submodule(path)
        if isinstance(part, RaggedRNN):
            prefix = f"{path}." if path else ""
            for stock, own in part.stock_names().items():
                del names[prefix + own]
                names[prefix + stock] = prefix + own
    return names


def _check_dense(model: nn.Module, saved: SavedModel) -> None:
    """Raise an error unless the model has the names and sizes of the one that was pruned."""
    kind = f"`into` is a {type(model).__name__}"
    # keep_vars: detached tensors would hide that two names stand for one tensor.
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
    for name, array in saved.float_parameters().items():
        check(isinstance(array, np.ndarray), f"the file holds {name!r} in slices of unequal sizes")
        check(
            id(state[name]) in pruned
            or name in saved.held.get("patterns", {})  # a state may have any batch size
            or state[name].shape == array.shape,
            f"{kind} whose {name!r} has shape {tuple(state[name].shape)}; saved was {array.shape}",
        )
