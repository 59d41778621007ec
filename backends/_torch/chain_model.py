"""A chain of layers as a torch module, which can be trained, gated and shrunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from l0gate._chain import Chain
from l0gate._errors import L0GateError, check

_FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "softmax": partial(nn.Softmax, dim=-1),
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "hard_tanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "hard_sigmoid": nn.Hardsigmoid,
    "linear": nn.Identity,
}
_SLOPED: dict[str, Callable[[float], nn.Module]] = {"leaky_relu": nn.LeakyReLU, "elu": nn.ELU}
_RECURRENT: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class ChainModel(nn.Module):
    """The layers of a chain in torch's own modules, each under the layer's name.

    `forward(x, states=None)` takes a sequence as the chain does, (T, B) tokens or (T, B, features),
    or batch first, and returns the outputs and a tuple of states, one per recurrent layer, each as
    its torch module gives it.

    >>> chain = Chain([{"type": "gru", "name": "rnn", "bias": False}])
    >>> weights = {"rnn.weight_ih_l0": torch.ones(9, 2), "rnn.weight_hh_l0": torch.ones(9, 3)}
    >>> y, states = ChainModel(chain, weights)(torch.ones(5, 1, 2))
    >>> y.shape, [tuple(state.shape) for state in states]
    (torch.Size([5, 1, 3]), [(1, 1, 3)])
    """

    def __init__(self, chain: Chain, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.chain_layers = [dict(layer) for layer in chain.layers]
        self.batch_first = chain.batch_first
        given = {name: torch.as_tensor(array) for name, array in parameters.items()}
        self._paths: list[str] = []
        for position, layer in enumerate(self.chain_layers):
            path = str(layer.get("name", f"{layer['type']}_{position}"))
            self._paths.append(path)
            module = self._module(layer, path, given)
            if module is not None:
                _put(self, path, module)
        self.load_state_dict(given)

    def _module(
        self, layer: Mapping[str, Any], path: str, given: Mapping[str, Tensor]
    ) -> nn.Module | None:
        """The torch module of a layer, with random weights; None for a layer without one."""
        kind = layer["type"]
        if layer.get("reads") is not None or (kind == "add" and not self._adds_input(layer)):
            raise _no_module(layer, "reads another layer than the one before it")
        if kind == "add":
            return None
        if kind == "activation":
            function = layer["function"]
            if function in _SLOPED:
                return _SLOPED[function](layer["slope"])
            why = f"has the function {function!r}, for which torch has no module"
            check(function in _FUNCTIONS, _message(layer, why))
            return _FUNCTIONS[function]()
        prefix = f"{path}." if path else ""
        if kind in ("embedding", "linear"):
            rows, columns = given[f"{prefix}weight"].shape
            if kind == "embedding":
                return nn.Embedding(rows, columns)
            return nn.Linear(columns, rows, bias=layer["bias"])
        if kind not in _RECURRENT:
            raise _no_module(layer, "has no torch module here")
        return self._recurrent(layer, given, prefix)

    def _recurrent(
        self, layer: Mapping[str, Any], given: Mapping[str, Tensor], prefix: str
    ) -> nn.Module:
        hidden = [
            given[f"{prefix}weight_hh_l{depth}"].shape[1] for depth in range(layer["num_layers"])
        ]
        check(
            len(set(hidden)) == 1,
            _message(layer, f"has the sizes {hidden}; name its layers one by one"),
        )
        check(
            layer.get("reset_after", True)
            and layer.get("recurrent_activation", "sigmoid") == "sigmoid"
            and layer.get("activation", "tanh") in ("tanh", *(["relu"] * (layer["type"] == "rnn"))),
            _message(layer, "computes with other functions than torch's module, or resets before"),
        )
        options = {"nonlinearity": layer.get("activation", "tanh")}
        module: nn.Module = _RECURRENT[layer["type"]](
            given[f"{prefix}weight_ih_l0"].shape[1],
            hidden[0],
            layer["num_layers"],
            bias=layer["bias"],
            bidirectional=layer["bidirectional"],
            batch_first=self.batch_first,
            **(options if layer["type"] == "rnn" else {}),
        )
        return module

    def _adds_input(self, layer: Mapping[str, Any]) -> bool:
        last = self.chain_layers[-2].get("label") if len(self.chain_layers) > 1 else None
        return layer is self.chain_layers[-1] and set(layer["inputs"]) == {last, "input"}

    def forward(
        self, x: Tensor, states: Sequence[Any] | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        y, remaining, new = x, iter(states or ()), []
        for layer, path in zip(self.chain_layers, self._paths, strict=True):
            if layer["type"] == "add":
                y = y + x
            elif layer["type"] in _RECURRENT:
                y, state = self.get_submodule(path)(y, next(remaining, None))
                new.append(state)
            else:
                y = self.get_submodule(path)(y)
        return y, tuple(new)


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Add a module under a dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(model, parent):
            model.add_module(parent, nn.Module())
        model = getattr(model, parent)
    model.add_module(name, module)


def _message(layer: Mapping[str, Any], why: str) -> str:
    name = f" {layer['name']!r}" if layer.get("name") else ""
    return f"layer{name} of type {layer['type']!r} {why}: the net cannot become a torch module"


def _no_module(layer: Mapping[str, Any], why: str) -> L0GateError:
    return L0GateError(_message(layer, why))
