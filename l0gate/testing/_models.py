"""Checks of the capabilities "nets" and "models", for backends that claim them."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._registry import get_backend
from l0gate._saved_model import read, save
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
_BUDGET = Budget(parameters=0.5)


def check_nets(backend: Backend) -> None:
    """A trainable chain computes what `l0gate.reference.Net` computes, gradients and states too."""
    claim(backend, "nets")
    for what, layers in _NETS.items():
        found, wanted = (_run(b.net(layers), layers) for b in (backend, get_backend("numpy")))
        losses = found.pop("losses"), wanted.pop("losses")
        assert np.allclose(*losses, *TOLERANCE["float64"]), (
            f"the losses of {what} are {losses[0]}, but should be {losses[1]}"
        )
        expect(backend, found, wanted, what, "float64", _NET_TOLERANCE)


def _run(net: Any, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What a net computes from rest, and going on from the state it has reached."""
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
    return {
        "initial parameters": parameters,
        "y": y,
        "state": state,
        "state beside gradients": reached,
        "losses": [float(first), float(second)],
        "gradients": gradients,
        "gradients from a state": further,
    }


def check_models(backend: Backend) -> None:
    """Each of `example_models` is gated, shrunk with a certificate, saved, and rebuilt the same."""
    claim(backend, "models")
    examples = backend.example_models()
    assert examples, f"`example_models` returned {examples!r}; it must return (model, inputs) pairs"
    for number, (model, inputs) in enumerate(examples):
        what = f"example model {number}"
        assert backend.owns_model(model), f"`owns_model` is false of {what}"
        gated = backend.gate_model(model, example_inputs=inputs, budget=_BUDGET)
        assert backend.owns_model(gated), f"`owns_model` is false of the gated {what}"
        assert _outputs(backend, gated(*inputs)), f"the gated {what} returned no array"
        penalty = gated.penalty(0.5)
        assert tuple(penalty.shape) == (), f"`penalty` of {what} has the shape {penalty.shape}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was not trained
            small = gated.shrink()
        certificate = small.certificate
        fewer = any(len(i) < certificate.dense_sizes[a] for a, i in certificate.kept.items())
        assert fewer, f"{what} has as many neurons as before: {certificate}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.npz"
            save(path, backend.describe(small))
            again = backend.rebuild(model, read(path))
        found, wanted = (_outputs(backend, m(*inputs)) for m in (again, small))
        same = len(found) == len(wanted) and all(map(np.array_equal, found, wanted))
        assert same, f"{what}, saved and rebuilt, computes {found}, but should {wanted}"


def _outputs(backend: Backend, result: Any) -> list[np.ndarray]:
    """Every array in nested dicts, lists and tuples, on the host."""
    if backend.owns(result):
        return [backend.to_numpy(result)]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [array for item in result for array in _outputs(backend, item)]
    return []
