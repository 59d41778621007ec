"""Checkpoints: a file from which a training job resumes. Its results are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._backend import Backend
from l0gate._errors import L0GateError, check
from l0gate.cli._adam import Adam
from l0gate.cli._folders import CHECKPOINT
from l0gate.cli._training import Training
from l0gate.files import write_atomically
from l0gate.npz import pack, unpack

_FORMAT = "l0gate checkpoint 1"


def write(
    folder: Path, job: Mapping[str, Any], phases: Mapping[str, Training], backend: Backend
) -> None:
    """Write the training state of every net of a job. A crash leaves the old file or the new one.

    `job` is what `Options.job` returns.
    """
    arrays: dict[str, np.ndarray] = {}
    notes: dict[str, Any] = {}
    for phase, training in phases.items():
        packed, notes[phase] = _pack(training, backend)
        arrays |= {f"{phase}/{name}": array for name, array in packed.items()}
    manifest = {"format": _FORMAT, "job": dict(job), "phases": notes}
    write_atomically(folder / CHECKPOINT, pack(arrays, manifest))


def read(folder: Path, job: Mapping[str, Any], backend: Backend) -> dict[str, Training]:
    """Read the training states in the folder. Raises if they are from a job with other settings."""
    path = folder / CHECKPOINT
    try:
        with path.open("rb") as file:
            arrays, manifest = unpack(file)
        check(manifest.get("format") == _FORMAT, f"is no {_FORMAT}")
    except OSError as error:
        raise L0GateError(f"`--resume`: '{path}' cannot be read: {error.strerror}") from None
    except L0GateError as error:
        raise L0GateError(f"`--resume`: '{path}' {error}") from None
    _check_job(path, manifest["job"], job)
    return {
        phase: _unpack(_below(arrays, phase), notes, backend)
        for phase, notes in manifest["phases"].items()
    }


def _check_job(path: Path, found: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    names = sorted({*found, *job})
    differences = [
        f"{name} was {found.get(name)!r} and is now {job.get(name)!r}"
        for name in names
        if found.get(name) != job.get(name)
    ]
    check(
        not differences,
        f"`--resume`: '{path}' is the checkpoint of another job: {'; '.join(differences)}."
        " Resume with the options it was started with, or choose another `--out`",
    )


def _pack(training: Training, backend: Backend) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state of a training as arrays by name, and as notes that JSON can hold."""
    tree = {
        "parameters": training.parameters,
        "adam": _moments(training.adam),
        "gates": training.gates or {},
        "gate_adam": _moments(training.gate_adam),
        "carry": _dicts(training.carry or ()),
        "teacher_carry": _dicts(training.teacher_carry or ()),
    }
    arrays = {name: backend.to_numpy(array) for name, array in _flat(tree).items()}
    arrays["losses"] = np.array(training.losses)
    arrays["shares"] = np.array(training.size_fractions)
    notes = {
        "updates": training.adam.steps,
        "rng": None if training.rng is None else list(training.rng),
        "seconds": training.seconds,
    }
    return arrays, notes


def _unpack(arrays: dict[str, np.ndarray], notes: Mapping[str, Any], backend: Backend) -> Training:
    """The inverse of `_pack`."""
    losses, size_fractions = arrays.pop("losses").tolist(), arrays.pop("shares").tolist()
    tree = _nested({name: backend.asarray(array) for name, array in arrays.items()})
    gate_adam = tree.get("gate_adam")
    return Training(
        tree["parameters"],
        Adam(**tree.get("adam", {"first": {}, "second": {}}), steps=notes["updates"]),
        tree.get("gates"),
        None if gate_adam is None else Adam(**gate_adam, steps=notes["updates"]),
        None if notes["rng"] is None else tuple(notes["rng"]),
        _tuples(tree["carry"]) if "carry" in tree else None,
        _tuples(tree["teacher_carry"]) if "teacher_carry" in tree else None,
        losses,
        size_fractions,
        notes["seconds"],
    )


def _moments(adam: Adam | None) -> dict[str, Any]:
    return {} if adam is None else {"first": adam.first, "second": adam.second}


def _dicts(value: Any) -> Any:
    """Nested tuples as nested dicts whose keys are the positions."""
    if isinstance(value, tuple):
        return {str(i): _dicts(part) for i, part in enumerate(value)}
    return value


def _tuples(value: Any) -> Any:
    """The inverse of `_dicts`."""
    if isinstance(value, dict):
        return tuple(_tuples(value[str(i)]) for i in range(len(value)))
    return value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one, whose keys are the nested ones joined by slashes."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = value
    return tree


def _below(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with "folder/", by their names without this prefix."""
    start = f"{folder}/"
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
