"""`TorchBackend`: the backend interface (`l0gate._backend`) for PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from l0gate._backend import Array, Backend
from l0gate._saved_model import SavedModel
from l0gate.backends._torch.isolation import eager


class TorchBackend(Backend):
    """The backend for torch tensors on any device, which also gates any `nn.Module`.

    >>> import l0gate, torch
    >>> backend = l0gate.get_backend(torch.zeros(2))
    >>> backend, backend.dtype(torch.zeros(2, dtype=torch.bfloat16))
    (<l0gate backend torch>, 'bfloat16')
    >>> square = backend.value_and_grad(lambda p: (p["w"] ** 2).sum())
    >>> value, gradient = square({"w": torch.ones(2)})
    >>> float(value), gradient["w"].tolist()
    (2.0, [2.0, 2.0])
    """

    name: ClassVar[str] = "torch"
    capabilities: ClassVar[frozenset[str]] = frozenset({"autodiff", "models", "nets"})
    dtypes: ClassVar[tuple[str, ...]] = ("float16", "bfloat16", "float32", "float64")
    xp: Any = torch
    array_type = torch.Tensor

    # Arrays -----------------------------------------------------------------------------------

    def asarray(self, array: Any, like: Array | None = None) -> Array:
        device = None if like is None else like.device
        if isinstance(array, torch.Tensor):
            return array.to(device)
        # A copy: a NumPy array may be read-only or have negative strides, which tensors cannot.
        return torch.from_numpy(np.array(array, order="C")).to(device)

    def to_numpy(self, x: Array) -> np.ndarray:
        x = x.detach().cpu()
        # NumPy has no bfloat16.
        host: np.ndarray = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
        return host

    def cast(self, x: Array, dtype: str) -> Array:
        return x.to(getattr(torch, dtype))

    def take(self, x: Array, index: np.ndarray, axis: int) -> Array:
        return x.index_select(axis, self.asarray(np.asarray(index, np.int64), x))

    def stop_gradient(self, x: Array) -> Array:
        return x.detach()

    @eager  # NumPy draws the numbers on the host, which cannot be compiled
    def uniform(self, rng: Any, shape: tuple[int, ...], like: Array) -> tuple[Array, Any]:
        return super().uniform(rng, shape, like)

    def value_and_grad(self, function: Callable[..., Array]) -> Callable[..., tuple[Array, Any]]:
        def run(arrays: Any, *args: Any, **kwargs: Any) -> tuple[Array, Any]:
            leaves: list[Array] = []

            def leaf(x: Array) -> Array:
                leaves.append(x.detach().requires_grad_())
                return leaves[-1]

            with torch.enable_grad():
                value = function(_map(leaf, arrays), *args, **kwargs)
                gradients = iter(
                    torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
                )
            return value.detach(), _map(lambda _: next(gradients), arrays)

        return run

    # Nets -------------------------------------------------------------------------------------

    def net(self, layers: list[dict[str, Any]], batch_first: bool = False) -> Any:
        from l0gate.backends._torch.net import TorchNet

        return TorchNet(layers, batch_first)

    # Models -----------------------------------------------------------------------------------

    def owns_model(self, model: object) -> bool:
        return isinstance(model, nn.Module)

    def gate_model(self, model: Any, **options: Any) -> Any:
        from l0gate.backends._torch.gating.gate_model import gate_model

        return gate_model(model, **options)

    def describe(self, model: Any) -> SavedModel:
        from l0gate.backends._torch.shrinking.files import describe

        return describe(model)

    def rebuild(self, into: Any, saved: SavedModel) -> Any:
        from l0gate.backends._torch.shrinking.files import rebuild

        return rebuild(into, saved)

    def chain_model(self, saved: SavedModel) -> Any:
        """A torch module that computes what the chain of layers of a saved model does."""
        from l0gate.backends._torch.chain_model import ChainModel

        assert saved.chain is not None
        return ChainModel(saved.chain, saved.float_parameters())

    def example_models(self) -> list[tuple[Any, tuple[Any, ...]]]:
        tokens, signal = torch.arange(12).reshape(4, 3) % 7, torch.linspace(-1, 1, 60)
        encoder = nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        language = OrderedDict(embedding=nn.Embedding(7, 6), rnn=nn.LSTM(6, 8), out=_Last(8, 5))
        return [
            (nn.Sequential(language).eval(), (tokens,)),
            (
                nn.Sequential(OrderedDict(rnn=encoder, out=_Last(8, 2))).eval(),
                (signal.reshape(4, 5, 3),),
            ),
        ]


class _Last(nn.Linear):
    """A linear layer on the outputs y of the pair (y, state) that a recurrent layer returns."""

    def forward(self, input: Any) -> Any:
        return super().forward(input[0])


def _map(change: Callable[[Array], Array], arrays: Any) -> Any:
    if isinstance(arrays, Mapping):
        return {name: _map(change, value) for name, value in arrays.items()}
    return change(arrays)
