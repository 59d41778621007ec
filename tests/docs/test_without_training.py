"""The code on the page on calibration data."""

from __future__ import annotations

import re

import numpy as np
import torch
from scripts import ROOT
from torch import nn

import l0gate
from l0gate import Budget, Layout, Pruner
from l0gate.reference import Net, second_moments


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


def test_the_code_on_calibration_data_runs() -> None:
    text = (ROOT / "docs" / "without_training.md").read_text(encoding="utf-8")
    in_torch, in_numpy = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3)
    names = {"l0gate": l0gate, "Budget": Budget, "model": Model(), "x": x, "batches": [x]}
    exec(in_torch, names)
    assert names["small"].certificate.max_abs_difference < 1e-10  # type: ignore[attr-defined]
    layers = [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn"},
        {"type": "linear", "name": "decoder"},
    ]
    net, rng = Net(layers), np.random.default_rng(0)
    sizes = {"embedding": 4, "rnn": 8, "decoder": 5}
    tokens = rng.integers(0, 5, (6, 3))
    names = {
        "l0gate": l0gate,
        "Pruner": Pruner,
        "Layout": Layout,
        "Budget": Budget,
        "second_moments": second_moments,
        "net": net,
        "parameters": net.init(rng, input_size=5, sizes=sizes),
        "x": tokens,
        "loss": lambda p: net.loss(p, tokens, tokens)[0],
    }
    exec(in_numpy, names)
    assert len(names["kept"]["h0"]) < 8  # type: ignore[index]
