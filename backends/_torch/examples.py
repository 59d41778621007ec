"""What a model is called with: example inputs, more like them, and what a run of them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate._chain import RECURRENT, Chain
from l0gate._errors import L0GateError
from l0gate.backends._torch.net import TorchNet
from l0gate.backends._torch.pytree import (
    Inputs,
    copied,
    map_tensors,
    returned_tensors,
    tensors,
    undisturbed,
)
from l0gate.backends._torch.shrinking.ragged import CELLS, state_parts
from l0gate.backends._torch.shrinking.resize import StateAxes, recurrent_axes
from l0gate.layout.layout import Layout


@dataclass(frozen=True)
class Examples:
    """Inputs of a model. `tokens` says which tensors are looked up in a table of how many rows.

    `free` says that lengths and batch sizes may differ: the first two dimensions of every tensor.
    """

    inputs: Inputs
    tokens: Mapping[int, int]
    device: torch.device  # the model's, at that time
    free: bool = False

    def draw(self, count: int, device: torch.device, seed: int = 0) -> Iterator[Inputs]:
        """The example itself, then random ones: tokens uniform, floats from the example's own.

        Other integers (lengths, masks) stay as they are, and so do floats with infinities, such as
        a mask of zeros and -inf, or with NaN for what is missing. A constant example says nothing
        of the range of its floats, which are standard normal then. What was on the model's device
        follows it to `device`.
        """
        for inputs in self._draw(count, seed):
            yield map_tensors(lambda t: t.to(device) if t.device == self.device else t, inputs)

    def _draw(self, count: int, seed: int) -> Iterator[Inputs]:
        yield self.inputs
        generator = torch.Generator().manual_seed(seed)
        for number in range(1, count):
            index = -1

            def change(tensor: Tensor, grown: int = number) -> Tensor:
                nonlocal index
                index += 1
                return self._drawn(tensor, index, grown, generator)

            yield map_tensors(change, self.inputs)

    def _drawn(self, tensor: Tensor, index: int, number: int, generator: torch.Generator) -> Tensor:
        shape = list(tensor.shape)
        if self.free:
            shape[:2] = [1, 1] if number == 1 else [size + number for size in shape[:2]]
        if index in self.tokens:
            drawn = torch.randint(self.tokens[index], shape, generator=generator)
        elif tensor.is_floating_point() and tensor.numel():
            host = tensor.detach().cpu().flatten()
            if not bool(host.isfinite().all()):
                return tensor  # a mask to be added: all of a row must not be -inf
            if bool((host == host[0]).all()):
                drawn = torch.randn(shape, generator=generator)
            else:
                drawn = host[torch.randint(len(host), shape, generator=generator)]
        else:
            return tensor
        return drawn.to(tensor)


def conventional_inputs(model: nn.Module) -> Inputs | None:
    """Inputs for a model whose first layer is an embedding or recurrent: 5 steps, a batch of 3."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            tokens = torch.arange(15) % module.num_embeddings
            return (tokens.reshape(5, 3).to(module.weight.device),), {}
        if isinstance(module, nn.RNNBase):
            weight = module.get_parameter("weight_ih_l0")
            return (torch.zeros(5, 3, module.input_size).to(weight),), {}
    return None


@dataclass(frozen=True)
class Observed:
    """`output` of a model on example inputs; `stateful` recurrent modules were given states.

    `calls` are the names of the functions of torch's that were called.
    """

    output: Any
    tokens: Mapping[int, int]
    stateful: frozenset[str]
    calls: frozenset[str]


def observe(model: nn.Module, inputs: Inputs) -> Observed:
    """Run a copy of the model on example inputs, in eval mode."""
    original, model = model, copied(model, share=True).eval()
    inputs = map_tensors(torch.clone, inputs)
    sources = {t.untyped_storage().data_ptr(): i for i, t in enumerate(tensors(inputs))}
    tokens: dict[int, int] = {}
    stateful: set[str] = set()

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            if isinstance(module, nn.Embedding):
                index = sources.get(next(tensors((args, kwargs))).untyped_storage().data_ptr())
                if index is not None:
                    tokens[index] = min(module.num_embeddings, tokens.get(index, 2**31))
            elif len(args) > 1 or kwargs.get("hx") is not None:
                stateful.add(path)

        return hook

    for path, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.RNNBase, nn.RNNCellBase)):
            module.register_forward_pre_hook(watch(path), with_kwargs=True)
    try:
        with undisturbed(), _untouched(original), _Calls() as calls:
            output = model(*inputs[0], **inputs[1])
    except L0GateError:
        raise
    except Exception as error:  # whatever the model raises
        raise L0GateError(
            f"`example_inputs`: the model {type(model).__name__} fails on them:"
            f" {type(error).__name__}: {error}"
        ) from error
    return Observed(output, tokens, frozenset(stateful), frozenset(calls.names))


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """No module of `model` may run while its copy does."""

    def refuse(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            raise L0GateError(
                f"a copy of the model runs {path!r} of the original: a function in it refers to the"
                " model that it was made for, as a lambda does that is kept in an attribute, or a"
                " wrapped or replaced `forward`. Such a model cannot be made small; use methods, or"
                " wrap after pruning"
            )

        return hook

    handles = [
        module.register_forward_pre_hook(refuse(path or type(module).__name__))
        for path, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class InOneDtype(TorchFunctionMode):
    """Runs a model in another dtype: `x.float()` or `dtype=torch.float32` in its code give that."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("float", "double", "half", "bfloat16"):
            return args[0].to(self.dtype)
        args = tuple(self._own(value) for value in args)
        return func(*args, **{key: self._own(value) for key, value in (kwargs or {}).items()})

    def _own(self, value: Any) -> Any:
        floating = isinstance(value, torch.dtype) and value.is_floating_point
        return self.dtype if floating else value


class Runner:
    """Runs a copy of a model with given tensors; returns its outputs and its recurrent states.

    `axes` are the axes of each recurrent module's states. States are compared where they arise,
    so an output that is one of them is left out of the outputs, unless there is no other.
    """

    def __init__(self, model: nn.Module, axes: Mapping[str, StateAxes], hint: str = "") -> None:
        self.model = copied(model, share=True).eval()
        self.axes = axes
        self.hint = hint

    def __call__(self, given: Mapping[str, Tensor], inputs: Inputs) -> tuple[list[Tensor], Any]:
        """All floating point outputs, and lists of states by axis."""
        states: dict[str, list[Tensor]] = {}
        dtype = next(t.dtype for t in given.values() if t.is_floating_point())
        # Nothing that one run leaves in buffers, attributes or inputs is there in the next.
        model = copied(self.model, share=True)
        # On this copy, and without `self`: a cycle would keep the model until it is collected.
        for path, own in self.axes.items():
            model.get_submodule(path).register_forward_hook(_collect(states, own))
        buffers = dict(model.named_buffers())
        given = {name: t.clone() if name in buffers else t for name, t in given.items()}
        with undisturbed(dtype), InOneDtype(dtype):
            args, kwargs = map_tensors(
                lambda t: t.to(dtype, copy=True) if t.is_floating_point() else t.clone(), inputs
            )
            try:
                out = torch.func.functional_call(model, given, args, kwargs)
            except L0GateError:
                raise
            except Exception as error:  # whatever the model raises
                raise L0GateError(
                    f"the model {type(self.model).__name__} fails in {dtype}{self.hint}:"
                    f" {type(error).__name__}: {error}"
                ) from error
        found = {_storage(state) for group in states.values() for state in group}
        returned = [_comparable(t, dtype) for t in returned_tensors(out)]
        outputs = [t for t in returned if _storage(t) not in found] or returned
        return outputs, states


def _collect(states: dict[str, list[Tensor]], axes: StateAxes) -> Callable[..., None]:
    """A hook that adds the states of a recurrent module, whose axes are given, to `states`."""

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        for own, part in zip(axes, state_parts(module, out), strict=True):
            for axis, state in zip(own, part, strict=True):
                states.setdefault(axis, []).append(state)

    return hook


def _comparable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats as they are; complex numbers as pairs; in float64, integers and truth values too."""
    if tensor.is_floating_point():
        return tensor
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    # Rounding in float32 may turn the choice between two that are all but equal.
    return (
        tensor.to(dtype) if dtype == torch.float64 else tensor.new_zeros(tensor.shape, dtype=dtype)
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


# Chains ---------------------------------------------------------------------------------------


# What the layers of a chain call, in their forward and to look at their inputs.
_OF_CHAINS = {"embedding", "lstm", "gru", "linear", "tanh", "sigmoid", "relu", "dropout"}
_OF_CHAINS |= {"__get__", "size", "dim", "zeros", "squeeze", "unsqueeze", "contiguous", "detach"}
_OF_CHAINS |= {"is_floating_point", "to", "long", "untyped_storage"}


class _Calls(TorchFunctionMode):
    """Notes the names of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def find_chain(
    model: nn.Module,
    layers: Sequence[Mapping[str, Any]],
    layout: Layout,
    inputs: Inputs,
    observed: Observed,
) -> Chain | None:
    """The chain that the whole model is, if it is one: the guess `layers`, proved by running it.

    A chain takes one sequence, and perhaps the states of its recurrent layers; a model of further
    inputs is none. Nor is one that calls anything but the functions of such layers, since what
    that does may not show on these inputs.
    """
    given, returned = list(tensors(inputs)), next(tensors(observed.output), None)
    stateful = [model.get_submodule(path) for path in observed.stateful]
    states = sum(2 if isinstance(module, nn.LSTM) else 1 for module in stateful)
    if returned is None or len(given) not in (1, 1 + states) or observed.calls - _OF_CHAINS:
        return None
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    # Of inputs such as (1, 1) both ways to read them are true.
    first = any(m.batch_first for m in model.modules() if isinstance(m, nn.RNNBase))
    for batch_first in (first, not first):
        try:
            chain = Chain([dict(layer) for layer in layers], batch_first)
            with undisturbed():
                y, _ = TorchNet(chain.layers, batch_first).apply(parameters, given[0])
            same = y.shape == returned.shape and torch.allclose(y, returned, rtol=1e-4, atol=1e-5)
        except Exception:  # a wrong guess may fail in any way
            return None
        if same and set(chain.layout.patterns) == set(model.state_dict()):
            return chain if _same_names(chain, model, layout) else None
    return None


def layers_of(model: nn.Module) -> list[dict[str, Any]]:
    """The model's modules as the layers of a chain, in the order in which they were made."""
    layers: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            layers.append({"type": "embedding", "name": name})
        elif isinstance(module, nn.Linear):
            layers.append({"type": "linear", "name": name, "bias": module.bias is not None})
        elif type(module) in CELLS.values():
            assert isinstance(module, nn.RNNBase)
            options = {k: getattr(module, k) for k in ("num_layers", "bidirectional", "bias")}
            layers.append({"type": module.mode.lower(), "name": name, **options})
        elif isinstance(module, (nn.Tanh, nn.Sigmoid, nn.ReLU)):
            layers.append({"type": "activation", "function": type(module).__name__.lower()})
    return layers


def _same_names(chain: Chain, model: nn.Module, layout: Layout) -> bool:
    """Whether an axis of the layout that has a name of the chain's is the chain's."""
    ours = {path: axes[0] for path, axes in recurrent_axes(model, layout).items()}
    names = [layer["name"] for layer in chain.layers if layer["type"] in RECURRENT]
    theirs = dict(zip(names, chain.groups, strict=True))
    others = set(layout.axes) - {axis for axes in ours.values() for axis in axes}
    if any(axes != theirs[path] for path, axes in ours.items()) or others & set(chain.state_axes):
        return False
    # A net without an embedding takes the dense model's features by the axis of its input.
    inputs = {axis for axis in layout.axes if not layout.writers(axis)}
    return inputs <= {chain.input_axis}
