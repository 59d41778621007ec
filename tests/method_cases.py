"""A small net, its parameters, and a run without training, for tests of methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate import Layout, Pruner
from l0gate.reference import Net

LAYOUT = Layout.lstm(2)
NET = Net(
    [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn", "num_layers": 2},
        {"type": "linear", "name": "decoder"},
    ]
)


def arrays(seed: int = 0, embedding: int = 5, hidden: tuple[int, int] = (6, 4)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sizes = {"embedding": embedding, "rnn": list(hidden), "decoder": 7}
    found = NET.init(rng, input_size=7, sizes=sizes)
    return {name: value.astype(np.float64) for name, value in found.items()}


def trained(pruner: Pruner, parameters: dict[str, Any], steps: int = 20) -> Any:
    """The state after some updates, without any training."""
    state = pruner.init(parameters)
    for step in range(steps):
        progress = (step + 1) / steps
        state = pruner.update(state, progress, parameters)
        if pruner.budget is not None and progress >= pruner.budget.settle:
            state = pruner.select(state, parameters)
    return state
