"""Tensors inside what a model is called with and returns, and running a model undisturbed."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from l0gate._errors import L0GateError

Module = TypeVar("Module", bound=nn.Module)
Function = TypeVar("Function", bound=Callable[..., Any])
Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # args and kwargs

_DEEP = 16  # levels in which outputs are looked for


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from tensors(getattr(tree, field.name))


def returned_tensors(out: Any, seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Every tensor that the caller can reach in an output, in objects of any class too."""
    if id(out) in seen or len(seen) > _DEEP:
        return
    seen |= {id(out)}
    if isinstance(out, Mapping):
        for value in out.values():
            yield from returned_tensors(value, seen)
    elif isinstance(out, (tuple, list, set)):
        for value in out:
            yield from returned_tensors(value, seen)
    elif isinstance(out, (Tensor, nn.Module, type)) or callable(out):
        yield from tensors(out)
    elif hasattr(out, "__dict__"):
        yield from returned_tensors(vars(out), seen)
    else:
        yield from tensors(out)


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same tree with `change(tensor)` in place of every tensor.

    Tuples, lists, mappings and dataclasses keep their classes.
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, PackedSequence):
        # Its other fields are indices, and belong to this one batch.
        return tree._replace(data=change(tree.data))
    if isinstance(tree, Mapping):
        changed = {key: map_tensors(change, value) for key, value in tree.items()}
        if type(tree) is dict or not isinstance(tree, MutableMapping):
            return changed
        mapping = copy.copy(tree)  # of its own class, such as a batch of a tokenizer
        mapping.update(changed)
        return mapping
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(change, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(change, value) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        record = copy.copy(tree)
        for field in fields(tree):
            value = map_tensors(change, getattr(tree, field.name))
            object.__setattr__(record, field.name, value)  # a frozen one has none of its own
        return record
    return tree


def as_inputs(example_inputs: Any) -> Inputs:
    """What a model is called with: a tuple or list of arguments, a dict by name, or one value."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)) and not isinstance(example_inputs, PackedSequence):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


def copied(model: Module, *, share: bool = False) -> Module:
    """A deep copy, so that running it leaves no trace in the model itself.

    With `share` the parameters stay the model's own, for copies that are only run.
    """
    memo = {id(p): p for p in model.parameters()} if share else {}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the model's own attributes raise
        raise L0GateError(
            f"the model {type(model).__name__} cannot be copied, which l0gate does to leave it"
            f" untouched: {type(error).__name__}: {error}"
        ) from error


def eager(function: Function) -> Function:
    """The function, left as it is where `torch.compile` would trace it."""
    # What torch's own optimizers use; the public decorator loads the compiler, for a second, now.
    disable: Any = getattr(torch, "_disable_dynamo", torch.compiler.disable)
    left: Function = disable(function)
    return left


@contextmanager
def undisturbed(dtype: torch.dtype | None = None) -> Iterator[None]:
    """No gradients; the same random numbers every time; floats made inside are of `dtype`."""
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


_inside = threading.local()


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """`torch.utils.checkpoint` raises inside, in this thread.

    It would compute activations again once the gated weights have gone, from the others.
    """
    _guard_checkpoints()
    before = getattr(_inside, "gated", False)
    _inside.gated = True
    try:
        yield
    finally:
        _inside.gated = before


@cache
def _guard_checkpoints() -> None:
    """Have both kinds of checkpoint look where they are called from; they offer no hook for it."""
    from torch.utils import checkpoint

    def guarded(start: Any) -> Any:
        @wraps(start)
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(_inside, "gated", False):
                raise L0GateError(
                    "the model calls torch.utils.checkpoint in its `forward`, so gradients would be"
                    " those of ungated weights: turn that off while the gates train, or checkpoint"
                    " the whole, as in `checkpoint(gated, x, use_reentrant=False)`"
                )
            return start(*args, **kwargs)

        return call

    own: Any = checkpoint
    own.CheckpointFunction.apply = guarded(own.CheckpointFunction.apply)
    own._checkpoint_without_reentrant_generator = guarded(
        own._checkpoint_without_reentrant_generator
    )


def kept_inputs(example_inputs: Any) -> Inputs:
    """Inputs of our own, which the caller cannot change."""
    args, kwargs = as_inputs(example_inputs)
    inputs: Inputs = map_tensors(lambda t: t.detach().clone(), (args, kwargs))
    return inputs
