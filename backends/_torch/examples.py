"""Example inputs of a model, random inputs like them, and what a run of the model on them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate._errors import L0GateError
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.kept_state import KeptState, Watch
from l0gate.backends._torch.pytree import Inputs, map_tensors, storage_of, tensors


@dataclass(frozen=True)
class Examples:
    """Example inputs of a model, and the means to draw random inputs like them.

    `tokens` says which tensors of the inputs hold tokens: it maps the position of such a tensor,
    among all tensors of the inputs, to the number of rows of the embedding that looks them up.
    `device` is where the model was when the examples were given. With `any_size`, the first two
    dimensions of every tensor (time and batch) may have any size.
    """

    inputs: Inputs
    tokens: Mapping[int, int]
    device: torch.device
    any_size: bool = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "free" in state:  # the name of `any_size` in pickles of 0.1.0
            state["any_size"] = state.pop("free")
        self.__dict__.update(state)

    def draw(self, count: int, device: torch.device, seed: int = 0) -> Iterator[Inputs]:
        """Yield `count` inputs: the example itself first, then random ones.

        Tokens are drawn uniformly, floats from the values of the example. If these values are all
        equal, floats are drawn from a standard normal distribution instead. Other integers
        (lengths, masks) are not changed, nor are floats with infinities or NaN, such as an additive
        mask of 0 and -inf. With `any_size`, the first random input has one step and one sequence,
        later ones are larger than the example. Tensors that were on the model's device are moved to
        `device`; the others are not moved.
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
        """Random values that replace tensor `index` of the example in input `number` (from 1)."""
        shape = list(tensor.shape)
        if self.any_size:
            shape[:2] = [1, 1] if number == 1 else [size + number for size in shape[:2]]
        if index in self.tokens:
            drawn = torch.randint(self.tokens[index], shape, generator=generator)
        elif tensor.is_floating_point() and tensor.numel():
            host = tensor.detach().cpu().flatten()
            if not bool(host.isfinite().all()):
                return tensor  # drawing from an additive mask could give -inf everywhere
            if bool((host == host[0]).all()):
                drawn = torch.randn(shape, generator=generator)
            else:
                drawn = host[torch.randint(len(host), shape, generator=generator)]
        else:
            return tensor
        return drawn.to(tensor)


def conventional_inputs(model: nn.Module) -> Inputs | None:
    """Inputs of 5 steps and a batch of 3, for a model that starts with an embedding or an RNN."""
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
    """What one run of a model on example inputs shows.

    `output` is what the model returned. `tokens` is as in `Examples`. `stateful` holds the paths of
    the recurrent modules that were called with an argument for initial states. `calls` holds the
    names of all torch functions that were called. `kept_state` is the state that the model keeps
    from call to call; it is False if there is none.
    """

    output: Any
    tokens: Mapping[int, int]
    stateful: frozenset[str]
    calls: frozenset[str]
    kept_state: KeptState


def observe(model: nn.Module, inputs: Inputs) -> Observed:
    """Run a copy of the model on example inputs, in eval mode; the model itself is not changed."""
    original, model = model, copied(model, share_parameters=True).eval()
    inputs = map_tensors(torch.clone, inputs)
    sources = {storage_of(t): i for i, t in enumerate(tensors(inputs))}
    tokens: dict[int, int] = {}
    stateful: set[str] = set()

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            if isinstance(module, nn.Embedding):
                index = sources.get(storage_of(next(tensors((args, kwargs)))))
                if index is not None:
                    tokens[index] = min(module.num_embeddings, tokens.get(index, 2**31))
            elif len(args) > 1 or kwargs.get("hx") is not None:
                stateful.add(path)

        return hook

    for path, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.RNNBase, nn.RNNCellBase)):
            module.register_forward_pre_hook(watch(path), with_kwargs=True)
    try:
        with undisturbed(), _untouched(original):
            watch_state, calls = Watch(model), _Calls()
            with calls:
                output = model(*inputs[0], **inputs[1])
            kept_state = watch_state.changed()
            if kept_state:  # the next call uses what this one has kept
                model(*inputs[0], **inputs[1])
    except L0GateError:
        raise
    except Exception as error:  # whatever the model raises
        raise L0GateError(
            f"`example_inputs`: the model {type(model).__name__} fails on them:"
            f" {type(error).__name__}: {error}"
        ) from error
    return Observed(output, tokens, frozenset(stateful), frozenset(calls.names), kept_state)


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """A context in which it is an error if a module of `model` runs: only its copy should."""

    def refuse(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            raise L0GateError(
                f"a copy of the model runs {path!r} of the original: a function in it still refers"
                " to the original, such as a lambda kept in an attribute, or a wrapped or replaced"
                " `forward`. Such a model cannot be made small: use methods instead, or wrap the"
                " small model after pruning"
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


class _Calls(TorchFunctionMode):
    """A context that collects the names of the torch functions that are called in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))
