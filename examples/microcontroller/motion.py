"""A classifier of movements as a Keras file: it stands for a file that you have.

The readings are made up: an accelerometer with three axes, 50 times a second, on somebody who
rests, walks and runs by turns. `python motion.py motion.keras` trains for some seconds and writes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

import l0gate

CLASSES = ("rest", "walk", "run")
RATE = 50  # readings a second
PACE = {"walk": (1.5, 2.2, 0.25), "run": (2.5, 3.2, 0.9)}  # steps a second, from and to; strength


def readings(rng: np.random.Generator, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Accelerations in g (B, T, 3), and the number of the movement at each, (B, T)."""
    x = 0.05 * rng.standard_normal((batch, length, 3))
    movement = np.zeros((batch, length), np.int64)
    for b in range(batch):
        down = np.array([0.0, 0.0, 1.0]) + 0.2 * rng.standard_normal(3)
        down /= np.linalg.norm(down)
        x[b] += down  # gravity, for a device on a belt
        t = 0
        while t < length:
            end = min(length, t + int(rng.integers(2 * RATE, 5 * RATE)))
            kind = int(rng.integers(len(CLASSES)))
            movement[b, t:end] = kind
            if CLASSES[kind] in PACE:
                slow, fast, strength = PACE[CLASSES[kind]]
                turn = 2 * np.pi * rng.uniform(slow, fast) * np.arange(end - t) / RATE
                swing = np.sin(turn) + 0.4 * np.sin(2 * turn + rng.uniform(0, 6))
                x[b, t:end] += rng.uniform(0.7, 1.3) * strength * swing[:, None] * down
            t = end
    return x.astype(np.float32), movement


class Classifier(torch.nn.Module):
    """An LSTM and the scores of the movements; `forward` is without the softmax of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 32, batch_first=True)
        self.out = torch.nn.Linear(32, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


def train(steps: int, seed: int = 0) -> Classifier:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        x, movement = (torch.from_numpy(a) for a in readings(rng, 32, 4 * RATE))
        scores = model(x).reshape(-1, len(CLASSES))
        loss = torch.nn.functional.cross_entropy(scores, movement.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def write(model: Classifier, path: str) -> None:
    """As Keras saves a Sequential of LSTM and Dense with softmax; neither needs Keras here."""
    net = l0gate.get_backend("numpy").net(
        [
            {"type": "lstm", "name": "rnn"},
            {"type": "linear", "name": "out"},
            {"type": "activation", "function": "softmax"},
        ]
    )
    parameters = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    l0gate.export(net.bind(parameters), path, "keras")


if __name__ == "__main__":
    write(train(400), sys.argv[1])
