"""An ONNX model, pruned, and streamed in ONNX Runtime.

python examples/onnx_speech/voice.py voice.onnx
python examples/onnx_speech/prune.py voice.onnx small.onnx
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
import voice

import l0gate


def prune(source: str, target: str, frames: Callable[[], np.ndarray], keep: float, steps: int):
    """Write a net with `keep` of the parameters, taught by the dense one: no labels are needed.

    `frames` returns a batch of inputs (T, B, bands) like those that the net will meet.
    """
    model = l0gate.import_(source).to_torch()
    x = torch.from_numpy(frames())
    budget = l0gate.Budget(parameters=keep)
    gated = l0gate.gate(model, example_inputs=x, budget=budget, distill=True, warm_start=True)
    optimizer = torch.optim.Adam(gated.param_groups(2e-3))
    for step in range(steps):
        x = torch.from_numpy(frames())
        loss = gated.distill(x) + gated.penalty(step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return l0gate.export(gated.shrink(), target)


class Stream:
    """A net that l0gate wrote as ONNX, one frame at a time. Each state goes back in."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path)
        self.states = {
            entry.name: np.zeros((1, 1, entry.shape[2]), np.float32)
            for entry in self.session.get_inputs()[1:]
        }

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The output (O,) for a frame (I,)."""
        y, *new = self.session.run(None, {"x": frame[None, None], **self.states})
        self.states = dict(zip(self.states, new, strict=True))
        return y[0, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="the ONNX file of a detector, such as voice.py writes")
    parser.add_argument("target", help="the ONNX file to write")
    parser.add_argument("--keep", type=float, default=0.25, help="the part of the parameters kept")
    parser.add_argument("--steps", type=int, default=400, help="steps of training")
    given = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    proof = prune(
        given.source,
        given.target,
        lambda: voice.frames(rng, 100, 16)[0],
        given.keep,
        given.steps,
    )
    print(f"proved: {proof}")

    x, present = voice.frames(np.random.default_rng(2), 2000, 1)
    stream = Stream(given.target)
    small = np.array([stream.step(frame) for frame in x[:, 0]])
    dense, _ = l0gate.import_(given.source)(x)
    for name, path, y in (("dense", given.source, dense[:, 0]), ("small", given.target, small)):
        right = np.mean((y > 0.5) == (present[:, 0] > 0.5))
        print(f"{name}: {os.path.getsize(path):,} bytes, {right:.1%} of the frames right")


if __name__ == "__main__":
    main()
