"""Saves the state of training in one .npz file, from which training continues exactly.

The arrays are `model/...` or `gated/...` and `small/...` (parameters and buffers), `adam/i/...`
(the optimizer of the gates), `state/i` (the recurrent state between two steps), `rng` and
`device_rng` (the random number generators). The manifest
describes the job and says which step it has reached.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from trainer import BATCH, Trainer

from l0gate import L0GateError
from l0gate.files import write_atomically
from l0gate.npz import pack, unpack


def save(path: Path, trainer: Trainer, history: list[dict[str, Any]], seconds: float) -> None:
    """Write all that training needs to continue; `load` returns `history` and `seconds`."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in _tensors(trainer)}
    arrays["rng"] = torch.get_rng_state().numpy()
    if trainer.device != "cpu":
        arrays["device_rng"] = torch.cuda.get_rng_state(trainer.device).numpy()
    for i, tensor in enumerate(_leaves(trainer.state)):
        arrays[f"state/{i}"] = tensor.cpu().numpy()
    manifest = {
        "format": "l0gate Penn TreeBank checkpoint",
        "job": _job(trainer),
        "step": trainer.step,
        "seconds": seconds,
        "loss": trainer.loss,
        "history": history,
        "cut": trainer.cut,
        "small": trainer.small is not None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pack(arrays, manifest))


def load(path: Path, trainer: Trainer) -> tuple[list[dict[str, Any]], float]:
    """Restore the trainer from a checkpoint; the checkpoint of another job raises."""
    with path.open("rb") as file:
        arrays, manifest = unpack(file)
    if _given(manifest.get("job")) != _given(_job(trainer)):
        raise L0GateError(f"'{path}' is the checkpoint of another run: {manifest.get('job')}")
    for prefix, module in _modules(trainer):
        _restore(module, prefix, arrays)
    if trainer.gate_optimizer is not None:
        for i, parameter in enumerate(trainer.gate_optimizer.param_groups[0]["params"]):
            own = {k: arrays.get(f"adam/{i}/{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
            if own["step"] is not None:
                trainer.gate_optimizer.state[parameter] = {
                    k: torch.tensor(v, device="cpu" if k == "step" else trainer.device)
                    for k, v in own.items()
                }
    if manifest["small"]:
        trainer.small = trainer.gated.shrink()
        _restore(trainer.small, "small", arrays)
    leaves = [
        torch.tensor(arrays[f"state/{i}"], device=trainer.device)
        for i in range(sum(name.startswith("state/") for name in arrays))
    ]
    trainer.state = _like(_example_state(trainer.network), iter(leaves)) if leaves else None
    trainer.step, trainer.loss, trainer.cut = (manifest[k] for k in ("step", "loss", "cut"))
    torch.set_rng_state(torch.tensor(arrays["rng"]))
    if trainer.device != "cpu":
        torch.cuda.set_rng_state(torch.tensor(arrays["device_rng"]), trainer.device)
    return manifest["history"], manifest["seconds"]


def _job(trainer: Trainer) -> dict[str, Any]:
    """What the results depend on: the options, and the texts, represented by their lengths."""
    corpus = trainer.corpus
    digest = [len(part) for part in (corpus.train, corpus.valid, corpus.test)]
    return {**json.loads(json.dumps(dataclasses.asdict(trainer.options))), "text": digest}


def _given(job: Any) -> Any:
    """A job without options that are None, because older checkpoints lack some of these."""
    return {k: v for k, v in job.items() if v is not None} if isinstance(job, dict) else job


def _modules(trainer: Trainer) -> list[tuple[str, nn.Module]]:
    if trainer.options.pruned:
        small = [("small", trainer.small)] if trainer.small is not None else []
        return [("gated", trainer.gated), *small]
    return [("model", trainer.model)]


def _tensors(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in _modules(trainer):
        for name, value in module.state_dict().items():
            yield f"{prefix}/{name}", value
    if trainer.gate_optimizer is not None:
        for i, parameter in enumerate(trainer.gate_optimizer.param_groups[0]["params"]):
            for key, value in trainer.gate_optimizer.state.get(parameter, {}).items():
                yield f"adam/{i}/{key}", value


def _restore(module: nn.Module, prefix: str, arrays: Mapping[str, Any]) -> None:
    start = f"{prefix}/"
    module.load_state_dict(
        {n.removeprefix(start): torch.tensor(a) for n, a in arrays.items() if n.startswith(start)}
    )


def _leaves(state: Any) -> list[Tensor]:
    """The tensors of a recurrent state, which may be nested in tuples, in order."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [leaf for s in state for leaf in _leaves(s)]


def _like(example: Any, leaves: Iterator[Tensor]) -> Any:
    """Put tensors, in order, into a state with the structure of `example`."""
    return next(leaves) if isinstance(example, Tensor) else tuple(_like(e, leaves) for e in example)


@torch.no_grad()
def _example_state(network: Any) -> Any:
    before = torch.get_rng_state()
    network.eval()
    device = next(network.parameters()).device
    _, state = network(torch.zeros(1, BATCH, dtype=torch.long, device=device))
    torch.set_rng_state(before)
    return state
