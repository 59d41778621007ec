"""Torch models for several test files, and how their gates are set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import l0gate
from l0gate import Budget
from l0gate._chain import Chain
from l0gate.reference import Net

torch.set_num_threads(1)  # the models are tiny, and test processes share the cores
FLOAT64 = {"rtol": 1e-10, "atol": 1e-12}


@contextlib.contextmanager
def autocast() -> Iterator[None]:
    """bfloat16 autocast. On some processors oneDNN's LSTM cannot run so, gated or not; there torch
    is left to its own kernels."""
    able = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with torch.backends.mkldnn.flags(enabled=able), torch.autocast("cpu", dtype=torch.bfloat16):
        yield


class Chained(nn.Module):
    """A random chain of `strategies.chains` as a torch model, in float64."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(case["seed"])
        hidden, width = case["hidden_size"], case["input_size"]
        for layer in case["layers"]:
            if layer["type"] == "embedding":
                self.embedding = nn.Embedding(width, hidden)
                width = hidden
            elif layer["type"] == "linear":
                self.decoder = nn.Linear(width, 3, bias=layer["bias"])
            else:
                self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[layer["type"]](
                    width,
                    hidden,
                    layer["num_layers"],
                    bias=layer["bias"],
                    bidirectional=layer["bidirectional"],
                    batch_first=case["batch_first"],
                )
                width = hidden * (1 + layer["bidirectional"])
        self.double().eval()

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if hasattr(self, "embedding"):
            x = self.embedding(x)
        y, state = self.rnn(x, state)
        return (self.decoder(y) if hasattr(self, "decoder") else y), state


class Language(nn.Module):
    """The model that most users have: embedding, stacked recurrent layers, dropout, decoder."""

    def __init__(
        self, cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM, dropout: float = 0.0, **options: Any
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.dropout = nn.Dropout(dropout)
        self.rnn = cell(6, 8, 2, dropout=dropout, **options)
        self.decoder = nn.Linear(8 * (1 + self.rnn.bidirectional), 11)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.rnn(self.dropout(self.embedding(x)), state)
        return self.decoder(self.dropout(y)), state


def prunable(case: Mapping[str, Any]) -> bool:
    """Whether a chain has neurons that may go: the caller sees those of its last layer."""
    chain = Chain(case["layers"])
    return bool(set(chain.layout.axes) - set(chain.frozen) - {chain.input_axis})


def tokens(steps: int = 5, batch: int = 3, vocabulary: int = 11, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (steps, batch), generator=generator)


def inputs_of(case: Mapping[str, Any], seed: int = 0) -> Tensor:
    """A random input for a random chain, laid out as the chain asks."""
    shape = (case["length"], case["batch"])
    if case["layers"][0]["type"] == "embedding":
        x = tokens(*shape, vocabulary=case["input_size"], seed=seed)
    else:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(*shape, case["input_size"], generator=generator, dtype=torch.float64)
    return x.transpose(0, 1).contiguous() if case["batch_first"] else x


def random_log_alpha(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Gates that are random, all soft, all open or all closed."""
    low, high = {"random": (-6, 4), "soft": (-2, 2), "open": (4, 5), "closed": (-6, -3)}[kind]
    return rng.uniform(low, high, size)


def set_gates(gated: Any, kind: str = "random", seed: int = 0) -> None:
    """Random gates on all axes that are not frozen."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for axis, values in gated.log_alpha.items():
            if axis not in gated.pruner.freeze:
                values.copy_(torch.tensor(random_log_alpha(kind, len(values), rng)))


def small_of(model: nn.Module, inputs: Any, kind: str = "random", **options: Any) -> nn.Module:
    """The small model after gating with random gates; `equal` applies to `shrink` too."""
    gated = l0gate.gate(model, example_inputs=inputs, strength=1e-3, **options)
    set_gates(gated, kind)
    small: nn.Module = gated.shrink()
    return small


def assert_close(found: Any, expected: Any) -> None:
    """Equal tensors, or nests of them, to the tolerance of their dtype."""
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
        return
    tolerance = FLOAT64 if expected.dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(found, expected, **tolerance)


def gated_language(budget: Budget | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return l0gate.gate(
        options.pop("model", None) or Language(),
        example_inputs=options.pop("example_inputs", tokens()),
        budget=budget,
        strength=None if budget else 1e-3,
        **options,
    )


def keep_counts(gated: Any, **counts: int) -> None:
    """Gates of which so many per axis are open, some of them soft."""
    with torch.no_grad():
        for axis, values in gated.log_alpha.items():
            values.copy_(torch.linspace(-2.0, 3.0, len(values)))
            values[counts[axis] :] = -5.0


def by_cell(state: Any) -> list[list[Tensor]]:
    """The states of a stock or ragged module: per part, one tensor for every cell."""
    pair = isinstance(state, tuple) and len(state) == 2
    is_lstm = pair and (isinstance(state[0], tuple) or state[0].ndim == 3)
    return [list(part) for part in (state if is_lstm else (state,))]


class Features(nn.Module):
    """No embedding: the model's own inputs are features."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.decoder = nn.LSTM(4, 8, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor, offset: Any = 0.0) -> Tensor:
        y: Tensor = self.decoder(self.rnn(x)[0]) + offset
        return y


class Plain(Features):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y: Tensor = self.decoder(self.rnn(x)[0])
        return y


def with_torch_names(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers, with the one kind of GRU that torch has."""
    return [{k: v for k, v in layer.items() if k != "reset_after"} for layer in case["layers"]]


def nets_of_both(
    case: dict[str, Any], seed: int = 0
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """The chain as a net of each backend, with the same float64 parameters, of ragged sizes."""
    layers = with_torch_names(case)
    rng = np.random.default_rng(case["seed"])
    sizes: dict[str, Any] = {"embedding": case["hidden_size"], "decoder": 3}
    for layer in layers:
        if "num_layers" in layer:
            count = layer["num_layers"] * (1 + layer["bidirectional"])
            sizes["rnn"] = rng.integers(1, case["hidden_size"] + 1, count).tolist()
    sizes = {name: size for name, size in sizes.items() if name in str(layers)}
    options: dict[str, Any] = {"input_size": case["input_size"], "sizes": sizes}
    nets = (
        Net(layers, case["batch_first"]),
        l0gate.get_backend("torch").net(layers, case["batch_first"]),
    )
    numbers = [n.init(np.random.default_rng(seed), dtype=np.float64, **options) for n in nets]
    return *nets, *numbers
