"""The language models of Zaremba, Sutskever and Vinyals (arXiv 1409.2329), and their schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Sizes and training schedule of one model."""

    hidden: int
    dropout: float
    epochs: int
    constant: int  # epochs with the initial learning rate
    decay: float  # factor of the learning rate in each later epoch
    clip: float  # largest norm of the gradient
    scale: float  # weights start uniform in [-scale, scale]


MODELS = {
    "small": Config(200, 0.0, 8, 4, 0.5, 5.0, 0.1),
    "wide-small": Config(400, 0.35, 8, 4, 0.5, 5.0, 0.1),
    "medium": Config(650, 0.5, 39, 6, 1 / 1.2, 5.0, 0.05),
    "large": Config(1500, 0.65, 55, 14, 1 / 1.15, 10.0, 0.04),
    "tiny": Config(8, 0.1, 2, 1, 0.5, 5.0, 0.1),  # for tests
}


class LanguageModel(nn.Module):
    """Embedding, two LSTM layers and a decoder, with dropout between them.

    The layers are one `nn.LSTM` if they have the same number of neurons, else two.
    """

    def __init__(self, words: int, sizes: tuple[int, int, int], dropout: float, scale: float):
        super().__init__()
        embedding, first, second = sizes
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(words, embedding)
        if first == second:
            self.rnn: nn.Module = nn.LSTM(embedding, first, num_layers=2, dropout=dropout)
        else:
            self.rnn = Stack(nn.LSTM(embedding, first), nn.Dropout(dropout), nn.LSTM(first, second))
        self.decoder = nn.Linear(second, words)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-scale, scale)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Scores (T, B, words) of the next words after the word ids x (T, B), and the last state.

        `state` is what an earlier call returned; None starts from zeros.
        """
        y, state = self.rnn(self.dropout(self.embedding(x)), state)
        return self.decoder(self.dropout(y)), state


class Stack(nn.Module):
    """Two recurrent layers of different sizes; the state is the pair of their states."""

    def __init__(self, first: nn.Module, between: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.between, self.second = first, between, second

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        before = (None, None) if state is None else state
        y, one = self.first(x, before[0])
        y, two = self.second(self.between(y), before[1])
        return y, (one, two)


def layer_sizes(network: Any) -> list[int]:
    """The numbers of neurons of the embedding, the first and the second layer."""
    weights = dict(network.named_parameters())
    hidden = [w.shape[1] for name, w in weights.items() if "weight_hh" in name]
    return [weights["embedding.weight"].shape[1], *hidden]
