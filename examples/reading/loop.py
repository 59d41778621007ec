"""One training loop for all readers, dense, gated or small: it can be stopped, and goes on."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

import l0gate

Batches = Callable[[torch.Generator], Iterator[Sequence[Tensor]]]


def train(
    model: nn.Module,
    groups: list[dict[str, Any]],
    batches: Batches,
    loss: Callable[[nn.Module, Sequence[Tensor]], Tensor],
    *,
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    checkpoint: Path,
    label: str,
    penalty: Callable[[float], Tensor] | None = None,
) -> float:
    """Adam with a rate that falls to 0 like half a cosine; returns the seconds it took in all.

    `penalty(progress)` joins the loss of a gated model. After every epoch all that training needs
    is written to `checkpoint`, from which another call goes on with the same numbers.
    """
    optimizer = torch.optim.Adam(groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    weights = [p for group in optimizer.param_groups[:1] for p in group["params"]]
    torch.manual_seed(seed)
    done, seconds = _resume(checkpoint, model, optimizer)
    total = steps_per_epoch * epochs
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total, completed=done * steps_per_epoch)
        model.train()
        for epoch in range(done, epochs):
            begin, step = time.perf_counter(), epoch * steps_per_epoch
            for batch in batches(torch.Generator().manual_seed(1000 * seed + epoch)):
                step += 1
                progress = min(1.0, step / total)
                value = loss(model, batch)
                if penalty is not None:
                    value = value + penalty(progress)
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.param_groups[0]["lr"] = (
                    peaks[0] * 0.5 * (1 + math.cos(math.pi * progress))
                )
                optimizer.step()
                bar.advance(task)
            seconds += time.perf_counter() - begin
            _save(checkpoint, model, optimizer, epoch + 1, seconds)
    model.eval()
    return seconds


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, seconds: float
) -> None:
    arrays = {f"model/{n}": t.cpu().numpy() for n, t in model.state_dict().items()}
    for i, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            arrays[f"optimizer/{i}/{key}"] = value.cpu().numpy()
    arrays["rng"] = torch.get_rng_state().numpy()
    arrays["done"] = np.array([epochs, seconds])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(beside, **arrays)  # type: ignore[arg-type]
    beside.replace(path)


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: torch.tensor(file[name]) for name in file.files}
    own = {n.removeprefix("model/"): t for n, t in arrays.items() if n.startswith("model/")}
    model.load_state_dict(own)
    for i, parameter in enumerate(_parameters(optimizer)):
        start = f"optimizer/{i}/"
        state = {n.removeprefix(start): t for n, t in arrays.items() if n.startswith(start)}
        if state:
            optimizer.state[parameter] = {
                key: t if key == "step" else t.to(parameter.device) for key, t in state.items()
            }
    torch.set_rng_state(arrays["rng"])
    epochs, seconds = arrays["done"].tolist()
    return int(epochs), seconds


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def sizes(model: nn.Module) -> dict[str, int]:
    """All parameters, and those of the recurrent matrices."""
    weights = dict(model.named_parameters())
    recurrent = [p for n, p in weights.items() if "weight_ih" in n or "weight_hh" in n]
    return {
        "parameters": sum(p.numel() for p in weights.values()),
        "recurrent": sum(p.numel() for p in recurrent),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": (names or [platform.processor() or platform.machine()])[0],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "l0gate": l0gate.__version__,
    }


def write(path: Path, content: Any) -> None:
    """JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def padded(rows: Sequence[Sequence[int]], at_least: int = 1) -> Tensor:
    """(rows, longest) ids, filled up with 0."""
    width = max(at_least, *map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def batches_of(count: int, size: int, lengths: Sequence[int]) -> Callable[..., Iterator[list[int]]]:
    """Indices in random order, a batch having rows of like lengths: its time is the longest's."""

    def drawn(generator: torch.Generator) -> Iterator[list[int]]:
        near = torch.tensor(lengths) * (1 + 0.2 * torch.rand(count, generator=generator))
        parts = near.argsort().split(size)
        for i in torch.randperm(len(parts), generator=generator):
            yield parts[i].tolist()

    return drawn


def fractions(row: Mapping[str, Any]) -> str:
    """What is left, in words."""
    dense, small = row["sizes"]
    return (
        f"{small['recurrent']:,} of {dense['recurrent']:,} recurrent weights"
        f" ({small['recurrent'] / dense['recurrent']:.1%})"
    )
