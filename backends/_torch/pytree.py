"""The tensors of a model, and those inside its arguments and outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # args and kwargs

_MAX_DEPTH = 16  # how many levels of nesting of an output are searched for tensors


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a shared one is listed once, under its first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


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
    """Every tensor in an output, including those in attributes of objects of any class."""
    if id(out) in seen or len(seen) > _MAX_DEPTH:
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
        # Its other fields index this very batch, so they are kept.
        return tree._replace(data=change(tree.data))
    if isinstance(tree, Mapping):
        changed = {key: map_tensors(change, value) for key, value in tree.items()}
        if type(tree) is dict or not isinstance(tree, MutableMapping):
            return changed
        mapping = copy.copy(tree)  # keeps a class such as a tokenizer's batch
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
            object.__setattr__(record, field.name, value)  # works for frozen dataclasses too
        return record
    return tree


def as_inputs(example_inputs: Any) -> Inputs:
    """`example_inputs` as (args, kwargs).

    A tuple or list holds positional arguments, a dict holds named ones, and any other value is the
    only argument.
    """
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)) and not isinstance(example_inputs, PackedSequence):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


def copied_inputs(example_inputs: Any) -> Inputs:
    """`example_inputs` as (args, kwargs), copied so that the caller cannot change them later."""
    args, kwargs = as_inputs(example_inputs)
    inputs: Inputs = map_tensors(lambda t: t.detach().clone(), (args, kwargs))
    return inputs


def storage_of(tensor: Tensor) -> int:
    """The address of a tensor's storage; a tensor and its views have the same one."""
    return tensor.untyped_storage().data_ptr()


# Sequences, padded or packed ------------------------------------------------------------------


def data_of(sequence: Any) -> Tensor:
    """The values of a sequence: the tensor itself, or the data of a `PackedSequence`."""
    data: Tensor = sequence.data if isinstance(sequence, PackedSequence) else sequence
    return data


def with_data(sequence: Any, data: Tensor) -> Any:
    """The sequence with `data` as its values, packed in the same way if it is packed."""
    return sequence._replace(data=data) if isinstance(sequence, PackedSequence) else data
