"""Checks of the capability "nets": trainable chains of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate._registry import get_backend
from l0gate.testing._compare import TOLERANCE, claim, expect

_NETS: dict[str, list[dict[str, Any]]] = {
    "a stacked LSTM below a linear layer": [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn", "num_layers": 2},
        {"type": "linear", "name": "decoder"},
    ],
    "a bidirectional GRU": [
        {"type": "gru", "name": "rnn", "bidirectional": True},
        {"type": "activation", "function": "tanh"},
        {"type": "linear", "name": "decoder", "bias": False},
    ],
}
_RAGGED: dict[str, Any] = {"embedding": 4, "rnn": (3, 5), "decoder": 6}
_FEATURES, _TIMES, _BATCH = 6, 5, 3
_NET_TOLERANCE = (1e-8, 1e-11)


def check_nets(backend: Backend) -> None:
    """A trainable chain has the outputs, states and gradients of `l0gate.reference.Net`."""
    claim(backend, "nets")
    for what, layers in _NETS.items():
        found, wanted = (_run(b.net(layers), layers) for b in (backend, get_backend("numpy")))
        entropies, errors = ((found.pop(n), wanted.pop(n)) for n in ("entropies", "errors"))
        _same_losses(entropies, what)
        expect(backend, found, wanted, what, "float64", _NET_TOLERANCE)
        _same_losses(errors, what)


def _same_losses(losses: tuple[list[float], list[float]], what: str) -> None:
    """The losses found and those wanted are the same."""
    assert np.allclose(*losses, *TOLERANCE["float64"]), (
        f"the losses of {what} are {losses[0]}, but should be {losses[1]}"
    )


def _run(net: Any, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Run a net twice, first from the zero state, then from the final state of the first run.

    Returns the outputs and gradients of both runs.
    """
    sizes = {
        name: size for name, size in _RAGGED.items() if name in {n.get("name") for n in layers}
    }
    rng = np.random.default_rng(1)
    parameters = net.init(rng, input_size=_FEATURES, sizes=sizes, dtype=np.float64)
    rng = np.random.default_rng(2)
    x: np.ndarray = rng.integers(_FEATURES, size=(_TIMES, _BATCH))
    targets = rng.integers(_RAGGED["decoder"], size=(_TIMES, _BATCH))
    if layers[0]["type"] != "embedding":
        x = rng.normal(size=(_TIMES, _BATCH, _FEATURES))
    y, state = net.apply(parameters, x)
    first, gradients, reached = net.loss_and_gradients(parameters, x, targets)
    second, further, _ = net.loss_and_gradients(parameters, x, targets, state)
    outputs = rng.normal(size=(_TIMES, _BATCH, _RAGGED["decoder"]))
    soft, taught, _ = net.loss_and_gradients(
        parameters, x, targets, teacher=outputs, teacher_weight=0.75, temperature=2.0
    )
    error, fitted, _ = net.loss_and_gradients(
        parameters, x, 0 * outputs, loss="mse", teacher=outputs, teacher_weight=0.25
    )
    return {
        "initial parameters": parameters,
        "y": y,
        "state": state,
        "state beside gradients": reached,
        "entropies": [float(first), float(second), float(soft)],
        "errors": [float(error)],
        "gradients": gradients,
        "gradients from a state": further,
        "gradients with a teacher": taught,
        "gradients with a teacher, of the mean squared error": fitted,
    }
