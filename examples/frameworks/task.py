"""The task of the three examples: does a sequence of numbers sum to more than 0?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS, LENGTH = 200, 12


class Classifier(nn.Module):
    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, hidden, batch_first=True)
        self.scores = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.rnn(x)[0][:, -1])
        return scores


def data(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, LENGTH, 1, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(dim=(1, 2)) > 0).long()


def show(small: nn.Module) -> None:
    x, y = data(1000, seed=1)
    with torch.no_grad():
        right = (small.eval()(x).argmax(dim=-1) == y).float().mean()
    print(f"accuracy of the small model: {right:.1%}")
    print(small.certificate)
