"""Example inputs of a model, more inputs like them, and what a run of the model on them shows."""

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
from l0gate.backends._torch.pytree import Inputs, map_tensors, storage_of, tensors


@dataclass(frozen=True)
class Examples:
    """Example inputs of a model, from which further ones are drawn.

    `tokens` maps the position of a tensor of integers, among the tensors of the inputs, to the
    number of rows of the embedding that looks it up. `device` was the model's when the examples
    were given. `free` says that the first two dimensions of every tensor, time and batch, may
    have any size.
    """

    inputs: Inputs
    tokens: Mapping[int, int]
    device: torch.device
    free: bool = False

    def draw(self, count: int, device: torch.device, seed: int = 0) -> Iterator[Inputs]:
        """The example itself, then random ones: `count` inputs in all.

        Tokens are drawn uniformly, floats from the values of the example. If these are all the
        same, they do not tell the range, and floats are drawn from a standard normal distribution.
        Other integers (lengths, masks) are not changed, nor are floats with infinities or NaN,
        such as an additive mask of 0 and -inf. Tensors that were on the model's device move to
        `device`, the others stay where they are.
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
        """Random values in place of tensor `index`, for input `number`."""
        shape = list(tensor.shape)
        if self.free:
            shape[:2] = [1, 1] if number == 1 else [size + number for size in shape[:2]]
        if index in self.tokens:
            drawn = torch.randint(self.tokens[index], shape, generator=generator)
        elif tensor.is_floating_point() and tensor.numel():
            host = tensor.detach().cpu().flatten()
            if not bool(host.isfinite().all()):
                return tensor  # an additive mask, which drawing could fill with -inf
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

    `tokens` is as in `Examples`. `stateful` are the paths of the recurrent modules that were called
    with an argument for initial states. `calls` are the names of the torch functions called.
    """

    output: Any
    tokens: Mapping[int, int]
    stateful: frozenset[str]
    calls: frozenset[str]


def observe(model: nn.Module, inputs: Inputs) -> Observed:
    """Run a copy of the model on example inputs, in eval mode; the model itself is not changed."""
    original, model = model, copied(model, share=True).eval()
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
    """Raises if a module of `model` runs inside, where only its copy should."""

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
    """Collects the names of the torch functions that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))
