"""Checks of the capabilities "nets" and "models", for backends that claim them."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._archive import SavedModel, read, save
from l0gate._budget import Budget
from l0gate._plugins import get_backend
from l0gate._tensor import Array, Backend
from l0gate.testing._compare import claim, expect

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
_RAGGED = {"embedding": 4, "rnn": (3, 5), "decoder": 6}


def check_nets(backend: Backend) -> None:
    """A trainable chain computes what `l0gate.reference.Net` computes, gradients and states too."""
    claim(backend, "nets")
    reference = get_backend("numpy")
    for what, layers in _NETS.items():
        sizes = {layer["name"]: _RAGGED[layer["name"]] for layer in layers if "name" in layer}
        nets = backend.net(layers), reference.net(layers)
        options: dict[str, Any] = {"input_size": 6, "sizes": sizes, "dtype": np.float64}
        numbers = [net.init(np.random.default_rng(0), **options) for net in nets]
        expect(backend, numbers[0], numbers[1], f"the initial parameters of {what}", "float64")
        rng = np.random.default_rng(1)
        tokens = layers[0]["type"] == "embedding"
        x = rng.integers(6, size=(5, 3)) if tokens else rng.normal(size=(5, 3, 6))
        targets = rng.integers(6, size=(5, 3))
        results, losses = [], []
        for net, parameters in zip(nets, numbers, strict=True):
            y, state = net.apply(parameters, x)
            first, gradients, last = net.loss_and_gradients(parameters, x, targets)
            second, gradients_on, _ = net.loss_and_gradients(parameters, x, targets, state)
            results.append([y, _flat(state), gradients, _flat(last), gradients_on])
            losses.append(np.array([float(first), float(second)]))
        assert np.allclose(losses[0], losses[1], rtol=1e-10), (
            f"the losses of {what} are {losses[0]}, but should be {losses[1]}"
        )
        expect(
            backend,
            results[0],
            results[1],
            f"[y, state, gradients, last state, gradients from a state] of {what}",
            "float64",
            (1e-8, 1e-11),
        )


def _flat(state: Any) -> list[Array]:
    return [part for entry in state for part in (entry if isinstance(entry, tuple) else (entry,))]


def check_models(backend: Backend) -> None:
    """Each of `example_models` is gated, shrunk with a certificate, saved, and rebuilt the same."""
    claim(backend, "models")
    examples = backend.example_models()
    assert examples, "`example_models` returned none; it must return (model, inputs) pairs"
    for number, (model, inputs) in enumerate(examples):
        what = f"example model {number}"
        assert backend.owns_model(model), f"`owns_model` is false of {what}"
        gated = backend.gate_model(model, example_inputs=inputs, budget=Budget(parameters=0.5))
        assert backend.owns_model(gated), f"`owns_model` is false of the gated {what}"
        assert _outputs(backend, gated(*inputs)), f"the gated {what} returned no array"
        penalty = gated.penalty(0.5)
        assert tuple(penalty.shape) == (), f"`penalty` of {what} has the shape {penalty.shape}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was not trained
            small = gated.shrink()
        certificate = small.certificate
        assert certificate.max_abs_difference <= certificate.tolerance, f"{what}: {certificate}"
        assert any(len(i) < certificate.dense_sizes[a] for a, i in certificate.kept.items()), (
            f"{what} has as many neurons as before"
        )
        saved = backend.describe(small)
        assert isinstance(saved, SavedModel), f"`describe` returned {type(saved).__name__}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.npz"
            save(path, small)
            again = backend.rebuild(model, read(path))
        found, wanted = (
            [backend.to_numpy(y) for y in _outputs(backend, m(*inputs))] for m in (again, small)
        )
        assert len(found) == len(wanted), f"{what}, rebuilt, returns {len(found)} arrays"
        for one, other in zip(found, wanted, strict=True):
            assert np.array_equal(one, other), f"{what}, saved and rebuilt, computes other outputs"


def _outputs(backend: Backend, result: Any) -> list[Array]:
    if backend.owns(result):
        return [result]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [array for item in result for array in _outputs(backend, item)]
    return []
