"""`TorchNet`: a chain of layers that torch's modules run with parameters given in every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l0gate._errors import L0GateError, check
from l0gate._vocabulary import complete, describe
from l0gate.layout.stacked import join
from l0gate.reference import Net
from l0gate.reference._losses import check_teacher

Parameters = Mapping[str, Tensor]
RecurrentState = tuple[Any, ...]  # one entry for every recurrent layer and direction

ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}
LOSSES = ("cross_entropy", "mse")
_STOCK: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class TorchNet:
    """`l0gate.reference.Net` on tensors: the same layers, parameter names, shapes and states.

    Sizes are read from the parameters, so every layer and direction may have its own. Recurrent
    layers run as `nn.LSTM` and `nn.GRU`. A GRU with `reset_after=False`, which `nn.GRU` does not
    offer, is an error.

    >>> net = TorchNet([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "decoder"}])
    >>> rng = np.random.default_rng(0)
    >>> parameters = net.init(rng, input_size=3, sizes={"rnn": 8, "decoder": 2})
    >>> y, state = net.apply(parameters, torch.ones(5, 4, 3))
    >>> y.shape, state[0].shape
    (torch.Size([5, 4, 2]), torch.Size([4, 8]))
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], batch_first: bool = False) -> None:
        self.layers = complete(layers)
        for layer in self.layers:
            check(
                layer.get("reset_after", True),
                f"layer {layer.get('name')!r} has reset_after=False, which torch's GRU does not"
                " offer; train it with the numpy backend",
            )
        self.batch_first = batch_first
        for index, layer in enumerate(self.layers):
            usual = layer.get("activation", "tanh") == "tanh"
            usual = usual and layer.get("recurrent_activation", "sigmoid") == "sigmoid"
            trains = layer["type"] in (*_STOCK, "embedding", "linear") and usual
            check(
                (trains or layer.get("function") in ACTIVATIONS) and "reads" not in layer,
                f"{describe(index, layer)} cannot be trained by name here; train a module of it",
            )
        self._described = Net(self.layers, batch_first)

    def __repr__(self) -> str:
        return f"TorchNet({self.layers}, batch_first={self.batch_first})"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the chain."""
        names: tuple[str, ...] = self._described.parameter_names
        return names

    def init(
        self,
        rng: np.random.Generator,
        *,
        input_size: int,
        sizes: Mapping[str, int | Sequence[int]],
        dtype: Any = np.float32,
    ) -> dict[str, Tensor]:
        """Random initial parameters: the same numbers as from `l0gate.reference.Net.init`."""
        drawn = self._described.init(rng, input_size=input_size, sizes=sizes, dtype=dtype)
        return {name: torch.tensor(array) for name, array in drawn.items()}

    def apply(
        self, parameters: Parameters, x: Any, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Run the net. Returns the outputs y (T, B, features), and the new state.

        x is a tensor or a NumPy array: (T, B) integers if the first layer is an embedding, else
        (T, B, features) floats. With `batch_first`, B comes before T in x and y. A state is a flat
        tuple over recurrent layers and directions: a pair (h, c) for an LSTM, h for a GRU, each of
        shape (B, H). None stands for zeros.
        """
        for name in self.parameter_names:
            if name not in parameters:
                raise L0GateError(
                    f"parameter {name!r} is missing; needed are {', '.join(self.parameter_names)}"
                )
        x = self._input(parameters, x)
        remaining = iter(self._check_state(state))
        new_state: list[Any] = []
        for layer in self.layers:
            kind = layer["type"]
            if kind == "embedding":
                x = F.embedding(x, parameters[join(layer["name"], "weight")])
            elif kind == "linear":
                bias = parameters[join(layer["name"], "bias")] if layer["bias"] else None
                x = F.linear(x, parameters[join(layer["name"], "weight")], bias)
            elif kind == "activation":
                x = ACTIVATIONS[layer["function"]](x)
            else:
                for i in range(layer["num_layers"]):
                    x = _recurrent(parameters, layer, i, x, remaining, new_state)
        return self._swap(x), tuple(new_state)

    def loss(
        self,
        parameters: Parameters,
        x: Any,
        targets: Any,
        state: RecurrentState | None = None,
        *,
        loss: str = "cross_entropy",
        teacher: Any = None,
        teacher_weight: float = 0.5,
        temperature: float = 1.0,
    ) -> tuple[float, RecurrentState]:
        """The loss and the new state, without gradients: arguments as in `loss_and_gradients`."""
        with torch.no_grad():
            y, state = self.apply(parameters, x, state)
            value = _loss(loss, y, targets, teacher, teacher_weight, temperature)
            return float(value), state

    def loss_and_gradients(
        self,
        parameters: Parameters,
        x: Any,
        targets: Any,
        state: RecurrentState | None = None,
        *,
        loss: str = "cross_entropy",
        teacher: Any = None,
        teacher_weight: float = 0.5,
        temperature: float = 1.0,
    ) -> tuple[float, dict[str, Tensor], RecurrentState]:
        """The loss, its gradients by parameter name, and the new state, detached.

        `loss` is "cross_entropy", the mean over steps and batch in nats, with integer targets of
        shape (T, B); or "mse", the mean over all elements, with targets of y's shape. With
        `batch_first`, B comes before T. `teacher`, `teacher_weight` and `temperature` add soft
        targets, as in `l0gate.reference.Net.loss_and_gradients`.

        >>> net = TorchNet([{"type": "linear", "name": "out", "bias": False}])
        >>> net.loss_and_gradients({"out.weight": torch.ones(1, 1)}, np.full((1, 1, 1), 3.0),
        ...                        np.zeros((1, 1, 1)), loss="mse")[:2]
        (9.0, {'out.weight': tensor([[18.]])})
        """
        leaves = {n: parameters[n].detach().requires_grad_() for n in self.parameter_names}
        with torch.enable_grad():
            y, state = self.apply(leaves, x, state)
            value = _loss(loss, y, targets, teacher, teacher_weight, temperature)
            gradients = torch.autograd.grad(value, list(leaves.values()))
        return float(value.detach()), dict(zip(leaves, gradients, strict=True)), _detach(state)

    def _input(self, parameters: Parameters, x: Any) -> Tensor:
        first = next((layer for layer in self.layers if "name" in layer), None)
        tokens = self.layers[0]["type"] == "embedding"
        like = next(iter(parameters.values())) if parameters else torch.zeros(())
        x = torch.as_tensor(x, device=like.device)
        if x.ndim != 3 - tokens:
            expected = ("B, T" if self.batch_first else "T, B") + ("" if tokens else ", features")
            raise L0GateError(f"`x` has shape {tuple(x.shape)}; expected ({expected})")
        if tokens:
            assert first is not None
            size = parameters[join(first["name"], "weight")].shape[0]
            if x.is_floating_point():
                raise L0GateError(f"`x` has dtype {x.dtype}; an embedding reads integer tokens")
            if x.numel() and not (x.min() >= 0 and x.max() < size):
                token = int(x[(x < 0) | (x >= size)][0])
                raise L0GateError(f"`x` contains the token {token}; allowed: 0..{size - 1}")
        else:
            if not x.is_floating_point():
                raise L0GateError(
                    f"`x` has dtype {x.dtype}; a net without an embedding reads floats"
                )
            x = x.to(like.dtype)
        return self._swap(x)

    def _check_state(self, state: RecurrentState | None) -> Sequence[Any]:
        count = sum(
            layer["num_layers"] * (1 + layer["bidirectional"])
            for layer in self.layers
            if layer["type"] in _STOCK
        )
        if state is None:
            return [None] * count
        if not isinstance(state, (tuple, list)) or len(state) != count:
            raise L0GateError(
                f"`state` must be a tuple of {count} entries, one per recurrent layer and direction"
            )
        return state

    def _swap(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1) if self.batch_first else x


def _recurrent(
    parameters: Parameters,
    layer: Mapping[str, Any],
    index: int,
    x: Tensor,
    state: Any,
    new_state: list[Any],
) -> Tensor:
    """Run layer `index` of a stacked LSTM or GRU in all its directions.

    x has shape (T, B, features); the result has (T, B, H), with the directions' H side by side.
    Initial states are taken from the iterator `state`; final ones are appended to `new_state`.
    """
    outputs = []
    for suffix in ("", "_reverse") if layer["bidirectional"] else ("",):
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if layer["bias"] else [])
        own = {
            f"{name}_l0": parameters[join(layer["name"], f"{name}_l{index}{suffix}")]
            for name in names
        }
        inputs = own["weight_ih_l0"].shape[1]
        hidden = own["weight_hh_l0"].shape[1]
        # On the meta device, so the module holds no weights: it is called with the given ones.
        module = _STOCK[layer["type"]](inputs, hidden, bias=layer["bias"], device="meta")
        given = _initial(next(state), layer["type"], (x.shape[1], hidden), x)
        sequence = x.flip(0) if suffix else x
        y, last = torch.func.functional_call(module, own, (sequence, given))
        outputs.append(y.flip(0) if suffix else y)
        new_state.append(tuple(s[0] for s in last) if isinstance(last, tuple) else last[0])
    return outputs[0] if len(outputs) == 1 else torch.concat(outputs, dim=-1)


def _initial(entry: Any, kind: str, shape: tuple[int, int], like: Tensor) -> Any:
    """The state of one layer and direction as torch's modules take it: of shape (1, B, H)."""
    if entry is None:
        return None
    parts = entry if kind == "lstm" else [entry]
    check(
        isinstance(parts, (tuple, list)) and len(parts) == (2 if kind == "lstm" else 1),
        "every entry of `state` must be a pair (h, c) for an LSTM, an array h for a GRU",
    )
    tensors = tuple(torch.as_tensor(part, device=like.device) for part in parts)
    for tensor in tensors:
        if tensor.shape != shape:
            raise L0GateError(
                f"`state` holds an array of shape {tuple(tensor.shape)}; expected {shape}"
            )
    return tuple(t[None] for t in tensors) if kind == "lstm" else tensors[0][None]


def _loss(
    loss: str, y: Tensor, targets: Any, teacher: Any, weight: float, temperature: float
) -> Tensor:
    if loss not in LOSSES:
        raise L0GateError(f"`loss` is {loss!r}; allowed: {', '.join(LOSSES)}")
    targets = torch.as_tensor(targets, device=y.device)
    expected = y.shape if loss == "mse" else y.shape[:-1]
    if targets.shape != expected:
        raise L0GateError(
            f"`targets` have shape {tuple(targets.shape)}; expected {tuple(expected)}"
        )
    if loss == "mse":
        hard = F.mse_loss(y, targets.to(y.dtype))
    else:
        hard = F.cross_entropy(y.reshape(-1, y.shape[-1]), targets.reshape(-1).long())
    if teacher is None:
        return hard
    check_teacher(loss, weight, temperature)
    teacher = torch.as_tensor(teacher, dtype=y.dtype, device=y.device).detach()
    if teacher.shape != y.shape:
        raise L0GateError(f"`teacher` has shape {tuple(teacher.shape)}; expected {tuple(y.shape)}")
    if loss == "mse":
        soft = F.mse_loss(y, teacher)
    else:
        log_p, log_q = (F.log_softmax(z / temperature, -1) for z in (y, teacher))
        soft = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1).mean()
        soft = temperature**2 * soft
    return (1 - weight) * hard + weight * soft


def _detach(state: RecurrentState) -> RecurrentState:
    return tuple(
        tuple(part.detach() for part in entry) if isinstance(entry, tuple) else entry.detach()
        for entry in state
    )
