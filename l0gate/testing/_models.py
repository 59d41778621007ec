"""Checks of the capability "models": a framework's own models, gated, shrunk, saved and rebuilt."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate._budget import Budget
from l0gate._saved_model import read, save
from l0gate.testing._compare import claim

_BUDGET = Budget(parameters=0.5)


def check_models(backend: Backend) -> None:
    """Every model of `example_models` can be gated, shrunk, saved, rebuilt with equal outputs."""
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
            warnings.simplefilter("ignore", UserWarning)  # that the model was not trained
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
