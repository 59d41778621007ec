"""Runs a model without side effects on the model, on random generators or on the process."""

from __future__ import annotations

import copy
import random
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from l0gate._errors import L0GateError
from l0gate.backends._torch.kept_state import CopyTensors, own_copy

Module = TypeVar("Module", bound=nn.Module)
Function = TypeVar("Function", bound=Callable[..., Any])


def copied(model: Module, *, share_parameters: bool = False) -> Module:
    """A deep copy of the model: running it does not change the model itself.

    With `share_parameters` the copy refers to the model's own parameters instead of copying them.
    This saves memory for copies that are only run.
    """
    memo = {id(p): p for p in model.parameters()} if share_parameters else {}
    try:
        # Torch refuses to copy what a graph has computed, such as a state that was not detached.
        with CopyTensors(lambda t: None if t.is_leaf else own_copy(t)):
            return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the model's own attributes raise
        raise L0GateError(
            f"the model {type(model).__name__} cannot be copied, which l0gate does to leave it"
            f" untouched: {type(error).__name__}: {error}"
        ) from error


def eager(function: Function) -> Function:
    """Exclude a function from tracing by `torch.compile`: compiled code calls it eagerly."""
    # The public decorator would import the compiler at once, which takes 1 s. Torch's optimizers
    # use this one.
    disable: Any = getattr(torch, "_disable_dynamo", torch.compiler.disable)
    left: Function = disable(function)
    return left


@contextmanager
def undisturbed(dtype: torch.dtype | None = None) -> Iterator[None]:
    """A context without gradients, with fixed random seeds, and with `dtype` as default dtype.

    Without `dtype` the default dtype stays. Afterwards the random generators of torch, NumPy and
    Python have the state that they had before.
    """
    default = torch.get_default_dtype()
    devices = range(torch.cuda.device_count())
    others = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - a model may draw from it
        try:
            torch.set_default_dtype(dtype or default)
            yield
        finally:
            torch.set_default_dtype(default)
            random.setstate(others[0])
            np.random.set_state(others[1])  # noqa: NPY002


# Checkpoints ----------------------------------------------------------------------------------

_gated = threading.local()  # `inside`: whether this thread runs a gated model
_lock = threading.Lock()  # guards `_users` and `_replaced`
_users = 0  # how many calls are inside `no_checkpoints`, in all threads
# What was replaced: owner, attribute, old value (None if it was inherited), new value.
_replaced: list[tuple[Any, str, Any, Any]] = []


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """A context in which `torch.utils.checkpoint` raises an error in this thread.

    A checkpoint runs its part of the model again in the backward pass. By then the model has its
    own weights again, so gradients would be those of the ungated weights. Torch has no hook for
    this: its functions are replaced when the first thread enters, and restored when the last one
    leaves.
    """
    global _users
    with _lock:
        if _users == 0:
            _replace_checkpoints()
        _users += 1
    before = getattr(_gated, "inside", False)
    _gated.inside = True
    try:
        yield
    finally:
        _gated.inside = before
        with _lock:
            _users -= 1
            if _users == 0:
                _restore_checkpoints()


def _replace_checkpoints() -> None:
    from torch.utils import checkpoint

    # The first function starts reentrant checkpoints, the second all others.
    for owner, name in (
        (checkpoint.CheckpointFunction, "apply"),
        (checkpoint, "_checkpoint_without_reentrant_generator"),
    ):
        guard = _refusing(getattr(owner, name))
        _replaced.append((owner, name, vars(owner).get(name), guard))
        setattr(owner, name, guard)


def _restore_checkpoints() -> None:
    while _replaced:
        owner, name, own, guard = _replaced.pop()
        if vars(owner).get(name) is not guard:
            continue  # other code has replaced it meanwhile
        if own is None:  # inherited
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _refusing(start: Any) -> Any:
    """The function `start`, but it raises an error while a gated model runs in this thread."""

    @wraps(start)
    def call(*args: Any, **kwargs: Any) -> Any:
        if getattr(_gated, "inside", False):
            raise L0GateError(
                "the model calls torch.utils.checkpoint in its `forward`, so gradients would be"
                " those of ungated weights: turn that off while the gates train, or checkpoint"
                " the gated model as a whole, as in `checkpoint(gated, x, use_reentrant=False)`"
            )
        return start(*args, **kwargs)

    return call


# Warnings -------------------------------------------------------------------------------------

# An entry of `warnings.filters`: action, message, category, module, line.
_IGNORED = (
    "ignore",
    re.compile("RNN module weights are not part of single contiguous chunk of memory"),
    Warning,
    None,
    0,
)


@contextmanager
def no_advice_to_flatten() -> Iterator[None]:
    """A context that ignores torch's warning on CUDA that asks for `flatten_parameters`.

    Every call of a recurrent module with gated weights would show it. The gated weights are new
    tensors in every step, so the advice does not help.
    """
    # `warnings.catch_warnings` is not safe in threads. Like `filterwarnings`, it also makes Python
    # forget which warnings it has shown, so that every step would show them again. The entry is
    # removed from the list that it was added to, since other code may replace `warnings.filters`.
    filters: Any = warnings.filters
    filters.insert(0, _IGNORED)
    try:
        yield
    finally:
        with suppress(ValueError):  # other code has emptied the list
            filters.remove(_IGNORED)
