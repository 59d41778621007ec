"""A pruned chain as a saved model, for tests of files."""

from __future__ import annotations

from typing import Any

import numpy as np

import l0gate
from l0gate import Budget, Pruner
from l0gate._chain import Chain
from l0gate._saved_model import SavedModel

LAYERS: list[dict[str, Any]] = [
    {"type": "embedding", "name": "embedding"},
    {"type": "lstm", "name": "rnn", "num_layers": 2},
    {"type": "linear", "name": "decoder"},
]


def pruned(batch_first: bool = False, dtype: str = "float32") -> tuple[Any, dict, Any]:
    """A pruned chain as a SavedModel, with the small parameters and the net they run in."""
    chain = Chain(LAYERS, batch_first)
    net = l0gate.get_backend("numpy").net(LAYERS, batch_first)
    parameters = net.init(
        np.random.default_rng(0),
        input_size=9,
        sizes={"embedding": 6, "rnn": 8, "decoder": 4},
        dtype=dtype,
    )
    pruner = Pruner(chain.layout, Budget(parameters=0.4))
    rng = np.random.default_rng(1)
    log_alpha = {"x": rng.normal(-2, 2, 6), "h0": rng.normal(-2, 2, 8), "h1": rng.normal(-2, 2, 8)}
    state = pruner.select(pruner.init(parameters, log_alpha=log_alpha))
    small, kept = pruner.shrink(parameters, state)
    x = rng.integers(0, 9, (5, 3))
    certificate = pruner.certify(
        lambda p, given: net.apply(p, given)[0], parameters, state, small, kept, [x]
    )
    saved = SavedModel(
        parameters=small,
        layout=chain.layout,
        kept=kept,
        dense_sizes=pruner.sizes,
        chain=chain,
        certificate=certificate,
        metadata={"vocabulary": list("abcdefghi")},
    )
    return saved, small, net
