"""The training loop of both readers, which continues from a checkpoint after it was stopped."""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

import l0gate
from l0gate import L0GateError
from l0gate.files import write_atomically
from l0gate.npz import pack, unpack

Batches = Callable[[torch.Generator], Iterator[Sequence[Tensor]]]
Loss = Callable[[nn.Module, Sequence[Tensor]], Tensor]
FORMAT = "l0gate reading checkpoint"


def compare(
    dense: nn.Module,
    batches: Batches,
    loss: Loss,
    example_inputs: tuple[Tensor, ...],
    *,
    part: float,
    rate: float,
    epochs: int,
    seed: int,
    out: Path,
    name: str,
    job: Mapping[str, Any],
    steps_per_epoch: int,
    label: str = "",
) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """Train `dense`, then a gated copy of it and a dense copy for as many epochs again.

    The gated copy keeps the fraction `part` of the recurrent weights. Returns the models by name
    ("dense", "dense, trained on" and "small"), and the seconds that each training took. Checkpoints
    are written to `out`; `job` is as in `train`.
    """

    def gate() -> Any:
        try:
            return l0gate.gate(
                copy.deepcopy(dense),
                example_inputs=example_inputs,
                budget=l0gate.Budget(parameters=part, of=recurrent(dense)),
                seed=seed,
                warm_start=True,
            )
        except L0GateError as error:
            raise L0GateError(f"`--part` is {part}: {error}") from None

    gate()  # raises before any training if the budget cannot be met
    seconds: dict[str, float] = {}

    def trained(model: Any, groups: list[dict[str, Any]], what: str, end: str, job: Any) -> None:
        seconds[what] = train(
            model,
            groups,
            batches,
            loss,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            seed=seed,
            checkpoint=out / f"{name}-{end}.npz",
            label=label + what,
            job=job,
            penalty=model.penalty if what == "gated" else None,
        )

    def all_of(model: nn.Module) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters()), "lr": rate}]

    trained(dense, all_of(dense), "dense", "dense", job)
    gated = gate()
    its = {**job, "--part": part}
    trained(gated, gated.param_groups(lr=rate), "gated", f"gated-{part:g}", its)
    longer = copy.deepcopy(dense)
    trained(longer, all_of(longer), "dense, on", "longer", job)
    models = {"dense": dense, "dense, trained on": longer, "small": gated.shrink()}
    return {what: model.eval() for what, model in models.items()}, seconds


def train(
    model: nn.Module,
    groups: list[dict[str, Any]],
    batches: Batches,
    loss: Loss,
    *,
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    checkpoint: Path,
    label: str,
    job: Mapping[str, Any],
    penalty: Callable[[float], Tensor] | None = None,
) -> float:
    """Train with Adam, whose rate falls to 0 in half a cosine; returns the seconds of all epochs.

    `penalty(progress)` is added to the loss of a gated model. `checkpoint` is written after every
    epoch. If the file exists, training continues from it, with the same results as without the
    interruption. `job` holds all settings that affect the results: a checkpoint of another job
    raises. The seed, the epochs and the initial weights are added to it here.
    """
    optimizer = torch.optim.Adam(groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    weights = [p for group in optimizer.param_groups[:1] for p in group["params"]]
    torch.manual_seed(seed)
    job = {**job, "epochs": epochs, "seed": seed, "first weights": digest(_bytes_of(model))}
    done, seconds = _resume(checkpoint, model, optimizer, job)
    total = steps_per_epoch * epochs
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total, completed=done * steps_per_epoch)
        model.train()
        for epoch in range(done, epochs):
            begin, step = time.perf_counter(), epoch * steps_per_epoch
            losses = torch.zeros((), device=weights[0].device)
            for batch in batches(torch.Generator().manual_seed(1000 * seed + epoch)):
                step += 1
                progress = min(1.0, step / total)
                value = loss(model, batch)
                if penalty is not None:
                    value = value + penalty(progress)
                losses += value.detach()
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.param_groups[0]["lr"] = (
                    peaks[0] * 0.5 * (1 + math.cos(math.pi * progress))
                )
                optimizer.step()
                bar.advance(task)
            if not math.isfinite(losses):
                raise L0GateError(
                    f"{label}: the loss is {losses.item()} in epoch {epoch + 1}; a smaller learning"
                    " rate may help"
                )
            seconds += time.perf_counter() - begin
            _save(checkpoint, model, optimizer, job, epoch + 1, seconds)
    model.eval()
    return seconds


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    job: Mapping[str, Any],
    epochs: int,
    seconds: float,
) -> None:
    arrays = {f"model/{n}": t.cpu().numpy() for n, t in model.state_dict().items()}
    for i, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            arrays[f"optimizer/{i}/{key}"] = value.cpu().numpy()
    arrays["rng"] = torch.get_rng_state().numpy()
    device = _parameters(optimizer)[0].device
    if device.type == "cuda":
        arrays["rng of the device"] = torch.cuda.get_rng_state(device).numpy()
    manifest = {"format": FORMAT, "job": job, "epochs": epochs, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, pack(arrays, manifest))


def _resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, job: Mapping[str, Any]
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    try:
        with path.open("rb") as file:
            arrays, manifest = unpack(file)
    except OSError as error:
        raise L0GateError(f"the checkpoint '{path}' cannot be read: {error.strerror}") from None
    except L0GateError as error:
        raise L0GateError(f"the checkpoint '{path}' {error}; remove it to begin anew") from None
    if manifest.get("format") != FORMAT:
        raise L0GateError(f"'{path}' is no checkpoint of a training; give another `--out`")
    its = manifest.get("job")
    if its != job:
        names = [n for n in job if not isinstance(its, dict) or its.get(n) != job[n]]
        raise L0GateError(
            f"'{path}' is the checkpoint of another run: its {' and '.join(names) or 'job'} differ;"
            " give another `--out`, or remove it to begin anew"
        )
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    own = {n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")}
    model.load_state_dict(own)
    for i, parameter in enumerate(_parameters(optimizer)):
        start = f"optimizer/{i}/"
        state = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        if state:
            optimizer.state[parameter] = {
                key: t if key == "step" else t.to(parameter.device) for key, t in state.items()
            }
    torch.set_rng_state(tensors["rng"])
    if "rng of the device" in tensors:
        torch.cuda.set_rng_state(tensors["rng of the device"], _parameters(optimizer)[0].device)
    return int(manifest["epochs"]), float(manifest["seconds"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _bytes_of(model: nn.Module) -> Iterator[bytes]:
    for name, value in model.state_dict().items():
        yield name.encode()
        yield value.detach().cpu().contiguous().numpy().tobytes()


def digest(parts: Iterable[bytes]) -> str:
    """A short hash of bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def recurrent(model: nn.Module) -> list[str]:
    """The names of the recurrent modules' matrices, which the budget counts."""
    return [n for n, _ in model.named_parameters() if "weight_ih" in n or "weight_hh" in n]


def sizes(model: nn.Module) -> dict[str, int]:
    """The numbers of all parameters and of recurrent weights."""
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return {
        "parameters": sum(counts.values()),
        "recurrent": sum(counts[name] for name in recurrent(model)),
    }


def machine() -> dict[str, Any]:
    """The machine and the versions that the results were measured with."""
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


def number(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], Any]:
    """An argparse type: a number from `least` to `most`."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"it is {text!r}; it must be {name} from {least:g} to {most:g}"
            )
        return value

    return convert


def folder(text: str) -> Path:
    """An argparse type: a folder to write to, which is created."""
    if not text:
        raise argparse.ArgumentTypeError("it is ''; it must be a folder")
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"'{path}' cannot be made: {error.strerror}") from None
    try:  # checked now, not after hours of training
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"'{path}' cannot be written to: {error.strerror}"
        ) from None


def target(text: str) -> Path:
    """An argparse type: a file to write."""
    path = Path(text)
    if not text or (path.exists() and not path.is_file()):
        raise argparse.ArgumentTypeError(f"it is {text!r}; it must be a file to write")
    folder(str(path.parent))
    return path


def say_warnings() -> None:
    """Print each warning in one line, without the line of code that it points at."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def padded(rows: Sequence[Sequence[int]], at_least: int = 1) -> Tensor:
    """Ids (rows, length of the longest row), padded with 0."""
    width = max(at_least, *map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def batches_of(count: int, size: int, lengths: Sequence[int]) -> Callable[..., Iterator[list[int]]]:
    """A function that draws batches of `size` indices; a batch has rows of similar lengths.

    Otherwise the longest row would determine the time of a batch.
    """

    def drawn(generator: torch.Generator) -> Iterator[list[int]]:
        near = torch.tensor(lengths) * (1 + 0.2 * torch.rand(count, generator=generator))
        parts = near.argsort().split(size)
        for i in torch.randperm(len(parts), generator=generator):
            yield parts[i].tolist()

    return drawn


def fractions(row: Mapping[str, Any]) -> str:
    """A text that says how many recurrent weights are left."""
    dense, small = row["sizes"]
    return (
        f"{small['recurrent']:,} of {dense['recurrent']:,} recurrent weights"
        f" ({small['recurrent'] / dense['recurrent']:.1%})"
    )
