"""Run by `.ci/run` with NumPy, pluggy and the wheel and nothing else: prune, save, stream."""

from __future__ import annotations

import importlib.util
import os
import tempfile

import numpy as np

import l0gate

# Another folder, so that nothing is imported from the checkout.
os.chdir(tempfile.mkdtemp())
assert "site-packages" in (l0gate.__file__ or ""), l0gate.__file__
for name in ("numba", "scipy", "torch", "typer"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed"

layers = [
    {"type": "embedding", "name": "embedding"},
    {"type": "gru", "name": "rnn"},
    {"type": "linear", "name": "decoder"},
]
net = l0gate.get_backend("numpy").net(layers)
sizes = {"embedding": 8, "rnn": 16, "decoder": 5}
parameters = net.init(np.random.default_rng(0), input_size=20, sizes=sizes)
pruner = l0gate.Pruner(l0gate.Layout.gru(1))
closed = np.where(np.arange(16) % 2, 3.0, -5.0)
state = pruner.init(parameters, log_alpha={"h0": closed})
small, kept = pruner.shrink(parameters, state)
x = np.random.default_rng(1).integers(0, 20, (7, 2))
certificate = pruner.certify(
    lambda given, tokens: net.apply(given, tokens)[0], parameters, state, small, kept, [x]
)
l0gate.save("small.npz", net.bind(small))
loaded = l0gate.load("small.npz")
whole, _ = loaded(x)
steps, carried = [], None
for x_t in x:
    y_t, carried = loaded.step(x_t, carried)
    steps.append(y_t)
np.testing.assert_allclose(np.stack(steps), whole, rtol=1e-4, atol=1e-6)
print(f"l0gate {l0gate.__version__} alone: {certificate}")
