"""A detector of voices, trained and written as ONNX: it stands for a file that you have.

The frames are made up: 16 log-mel bands of noise, and every now and then a voice, whose bands move
as vowels follow each other. `python voice.py voice.onnx` trains for some seconds and writes.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch

BANDS = 16


def frames(rng: np.random.Generator, length: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel frames (T, B, 16) and whether a voice is in each, (T, B, 1)."""
    x = 0.5 * rng.standard_normal((length, batch, BANDS))
    present = np.zeros((length, batch, 1))
    bands = np.arange(BANDS)
    for b in range(batch):
        t = int(rng.integers(30))
        while t < length:
            end = min(length, t + int(rng.integers(10, 40)))
            centre, drift = rng.uniform(2, BANDS - 3), rng.uniform(-0.1, 0.1)
            for now in range(t, end):
                formant = np.exp(-0.5 * (bands - centre - drift * (now - t)) ** 2)
                x[now, b] += rng.uniform(0.5, 1.2) * formant
            present[t:end, b] = 1
            t = end + int(rng.integers(10, 60))
    return x.astype(np.float32), present.astype(np.float32)


class Detector(torch.nn.Module):
    """Two GRU layers and the probability that a frame has a voice in it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(BANDS, 32, num_layers=2)
        self.out = torch.nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.out(self.rnn(x)[0]))


def train(steps: int, seed: int = 0) -> Detector:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(steps):
        x, present = (torch.from_numpy(a) for a in frames(rng, 100, 16))
        loss = torch.nn.functional.binary_cross_entropy(model(x), present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def write(model: torch.nn.Module, path: str) -> None:
    """As torch writes ONNX, with time and batch left open."""
    axes = {"frames": {0: "time", 1: "batch"}, "voice": {0: "time", 1: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of lengths that vary
        torch.onnx.export(
            model,
            (torch.zeros(10, 2, BANDS),),
            path,
            dynamo=False,
            input_names=["frames"],
            output_names=["voice"],
            dynamic_axes=axes,
        )


if __name__ == "__main__":
    write(train(200), sys.argv[1])
