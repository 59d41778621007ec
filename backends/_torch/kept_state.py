"""State that a model keeps from one call to the next, in buffers or in plain attributes.

`self.hidden = state` keeps the state of a stream, for example. Plain attributes may hold tensors in
anything that can be copied: tuples, dicts, dataclasses, objects of any class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Change = Callable[[Tensor], Tensor]
_OWN = {*vars(nn.Module()), "_flat_weights", "_flat_weight_refs", "_flat_weights_names"}


class CopyTensors(TorchFunctionMode):
    """A context in which `copy.deepcopy` puts `change(tensor)` in place of every tensor.

    Where `change` returns None, the tensor is copied as usual; so are parameters. Unlike
    `map_tensors`, this reaches into objects of any class.
    """

    def __init__(self, change: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            changed = self.change(tensor)
            if changed is None:
                return func(*args, **(kwargs or {}))  # type: ignore[no-untyped-call]
            memo[id(tensor)] = changed
        return memo[id(tensor)]


def own_copy(tensor: Tensor) -> Tensor:
    """A copy without a gradient history: torch refuses to copy what a graph has computed."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad and tensor.is_leaf)


def held_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors in plain attributes of all modules, by name, such as `rnn.hidden[0]`.

    The number counts the tensors of one attribute. Parameters and buffers are left out.
    """
    return {
        f"{path}.{key}[{i}]".lstrip("."): tensor
        for path, key, _, found in _attributes(model)
        for i, tensor in enumerate(found)
    }


def change_held(model: nn.Module, change: Callable[[str, Tensor], Tensor]) -> None:
    """Put `change(name, tensor)` in place of every tensor of `held_tensors`.

    The attributes get new values: what they held is not changed.
    """
    memo = _kept_as_is(model)
    for path, key, module, found in list(_attributes(model)):
        names = {id(t): f"{path}.{key}[{i}]".lstrip(".") for i, t in enumerate(found)}

        def changed(tensor: Tensor, names: dict[int, str] = names) -> Tensor:
            return change(names[id(tensor)], tensor)

        with CopyTensors(changed):
            module.__dict__[key] = copy.deepcopy(module.__dict__[key], dict(memo))


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, nn.Module, list[Tensor]]]:
    """Path, attribute, module and tensors for every plain attribute that holds tensors."""
    memo = _kept_as_is(model)
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for key, value in vars(module).items():
            found = [] if key in _OWN else _tensors_in(value, memo)
            if found:
                yield path, key, module, found


def _tensors_in(value: Any, memo: Mapping[int, Any]) -> list[Tensor]:
    """The tensors in an object of any class; `memo` is that of `_kept_as_is`."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    if not _is_plain(value):
        with CopyTensors(note):
            copy.deepcopy(value, dict(memo))
    return found


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, str))


def _kept_as_is(model: nn.Module) -> dict[int, Any]:
    """The memo of a copy of an attribute: modules, parameters and buffers in it are not copied."""
    own = [*model.modules(), *model.parameters(), *model.buffers()]
    return {id(part): part for part in own}


# What a call changes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class KeptState:
    """The state that a model keeps, as it was when the model was gated.

    `values` maps (path of a module, attribute or buffer) to its value for all that a call changes;
    what did not exist yet is in `absent`.
    """

    values: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    absent: tuple[tuple[str, str], ...] = ()
    like: Tensor | None = None  # empty, of the device and dtype that the model had

    def __bool__(self) -> bool:
        return bool(self.values or self.absent)

    @property
    def buffers(self) -> list[str]:
        """Names of the buffers that a call changes."""
        found = [place for place, value in self.values.items() if isinstance(value, _Buffer)]
        return [f"{path}.{key}".lstrip(".") for path, key in found]

    def restore(self, model: nn.Module) -> None:
        """Put the state back into a copy of the model, on the device and in the dtype it has now.

        A submodule that the model no longer has is left out.
        """
        now = next(iter(model.parameters()))

        def moved(tensor: Tensor) -> Tensor:
            assert self.like is not None
            if tensor.device == self.like.device:
                tensor = tensor.to(now.device)
            same = tensor.dtype == self.like.dtype
            return own_copy(tensor.to(now.dtype) if same else tensor)

        for (path, key), value in self.values.items():
            with CopyTensors(moved):
                new = copy.deepcopy(value, {id(m): m for m in model.modules()})
            module = model.get_submodule(path)
            if isinstance(new, _Buffer):
                module._buffers[key] = new.value
            else:
                module.__dict__[key] = new
        for path, key in self.absent:
            model.get_submodule(path).__dict__.pop(key, None)


@dataclass
class _Buffer:
    value: Tensor | None


@dataclass(frozen=True)
class Held:
    """What a model holds beside its parameters that depends on its axes, or changes in a call.

    `patterns` maps a buffer, or one of `held_tensors`, to the pattern of its dimensions, such as
    "_ _ h0"; "" stands for a buffer that calls change and that has no axes. `sizes` maps a plain
    attribute that holds the size of an axis, such as "hidden_size", to that axis.
    """

    state: KeptState = KeptState()
    patterns: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How often a model is run to compare it: the second call uses the kept state."""
        return 2 if self.state else 1

    def describe(self) -> dict[str, dict[str, str]]:
        """All but the state itself, as JSON."""
        return {"patterns": dict(self.patterns), "sizes": dict(self.sizes)}


class Watch:
    """Finds out which buffers and plain attributes of `model`, a copy, its calls change."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = dict(_values(model))
        memo = _kept_as_is(model)
        self.marks = {place: _mark(value, memo) for place, value in self.before.items()}
        for buffer in model.buffers():
            del memo[id(buffer)]
        with CopyTensors(own_copy):
            self.copies = copy.deepcopy(self.before, memo)

    def changed(self) -> KeptState:
        """The state that the calls since then have changed, as it was before."""
        now, memo = dict(_values(self.model)), _kept_as_is(self.model)
        values, absent = {}, []
        for place, value in now.items():
            if place not in self.before:
                absent.append(place)
            elif _mark(value, memo) != self.marks[place]:
                values[place] = self.copies[place]
        like = next(iter(self.model.parameters())).detach().new_empty(0)
        return KeptState(values, tuple(absent), like)


def _values(model: nn.Module) -> Iterator[tuple[tuple[str, str], Any]]:
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for key, buffer in module._buffers.items():
            yield (path, key), _Buffer(buffer)
        for key, value in vars(module).items():
            if key not in _OWN:
                yield (path, key), value


def _mark(value: Any, memo: Mapping[int, Any]) -> Any:
    """Differs after a call that has changed the value: a plain value, or tensors in anything."""
    if _is_plain(value):
        return value
    if isinstance(value, _Buffer):
        found = [] if value.value is None else [value.value]
    else:
        found = _tensors_in(value, memo)
    return _Tensors([(tensor, tensor._version) for tensor in found])  # keeps them: ids stay unique


class _Tensors:
    """Tensors and their versions, compared by identity."""

    def __init__(self, found: list[tuple[Tensor, int]]) -> None:
        self.found = found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Tensors) or len(self.found) != len(other.found):
            return False
        return all(
            a is b and i == j for (a, i), (b, j) in zip(self.found, other.found, strict=True)
        )
