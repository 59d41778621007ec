"""A classifier of spoken digits: trained dense, then pruned to a fraction of its recurrent weights.

    python examples/speech/digits.py --data DIR [--seeds 0 1] [--json FILE]

DIR holds `fsdd_logmel20.npz` (see the README here).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

import l0gate

FILE = "fsdd_logmel20.npz"
BATCH = 64
FRAME = 0.01  # seconds
TEST_INDICES = 5  # the official test part: recordings 0 to 4 of every speaker and digit


@dataclass(frozen=True)
class Clips:
    """Recordings of digits: `features[i]` is (frames, bands), `labels[i]` 0 to 9."""

    features: Sequence[Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.features)


def read(folder: Path) -> tuple[Clips, Clips]:
    """Training and test clips, every band with mean 0 and variance 1 over the training part."""
    with np.load(folder / FILE) as file:
        frames, offsets = file["feats"].astype(np.float32), file["offsets"]
        labels, index = file["label"], file["index"]
    clips = [frames[a:b] for a, b in itertools.pairwise(offsets)]
    test = index < TEST_INDICES
    known = np.concatenate(
        [clip for clip, held_out in zip(clips, test, strict=True) if not held_out]
    )
    mean, scale = known.mean(0), known.std(0)

    def part(chosen: np.ndarray) -> Clips:
        features = [torch.tensor((clips[i] - mean) / scale) for i in np.flatnonzero(chosen)]
        return Clips(features, torch.tensor(labels[chosen].astype(np.int64)))

    return part(~test), part(test)


class Digits(nn.Module):
    """Scores of the ten digits for every frame; `pooled` averages them over the clip.

    x is a `PackedSequence`, as in training, or (time, batch, bands); the scores have the same form.
    The net can run on a stream, because the mean over the frames so far is easy to update.
    """

    def __init__(self, unit: str, bands: int, hidden: int) -> None:
        super().__init__()
        self.rnn = {"LSTM": nn.LSTM, "GRU": nn.GRU}[unit](bands, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        if isinstance(y, PackedSequence):
            return y._replace(data=self.out(y.data))
        return self.out(y)


def pooled(scores: PackedSequence) -> Tensor:
    """The mean scores over the frames of each clip: (batch, 10)."""
    padded, lengths = pad_packed_sequence(scores)
    return padded.sum(0) / lengths[:, None]


def batches(
    clips: Clips, generator: torch.Generator, augment: bool
) -> Iterator[tuple[PackedSequence, Tensor]]:
    """One pass over the clips in random order, packed; a batch has clips of similar lengths.

    Otherwise the longest clip of a batch would determine its time.
    """
    near = torch.tensor([len(clip) for clip in clips.features])
    near = near * (1 + 0.2 * torch.rand(len(clips), generator=generator))
    parts = near.argsort().split(BATCH)
    for i in torch.randperm(len(parts), generator=generator):
        chosen = parts[i]
        features = [clips.features[i] for i in chosen]
        if augment:
            features = [_varied(clip, generator) for clip in features]
        yield pack_sequence(features, enforce_sorted=False), clips.labels[chosen]


def _varied(clip: Tensor, generator: torch.Generator) -> Tensor:
    """The clip louder or softer, with some frames and some bands set to 0 (arXiv 1904.08779)."""
    u = torch.rand(5, generator=generator).tolist()
    clip = clip + 0.6 * (u[0] - 0.5)
    start, frames = int(u[1] * len(clip)), int(u[2] * 0.2 * len(clip))
    clip[start : start + frames] = 0
    start, bands = int(u[3] * clip.shape[1]), int(u[4] * 4)
    clip[:, start : start + bands] = 0
    return clip


def accuracy(model: nn.Module, clips: Clips) -> float:
    """The fraction of clips that are classified correctly."""
    with torch.no_grad():
        packed = pack_sequence(list(clips.features), enforce_sorted=False)
        return float((pooled(model(packed)).argmax(1) == clips.labels).float().mean())


def train(
    model: nn.Module, groups: Any, clips: Clips, *, epochs: int, seed: int, penalty: Any = None
) -> None:
    """Train a model; for a gated one, `penalty(progress)` is added to the loss."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(groups)
    peak = optimizer.param_groups[0]["lr"]
    steps, step = epochs * math.ceil(len(clips) / BATCH), 0
    model.train()
    for _ in range(epochs):
        for x, labels in batches(clips, generator, augment=True):
            step += 1
            progress = step / steps
            loss = nn.functional.cross_entropy(pooled(model(x)), labels)
            if penalty is not None:
                loss = loss + penalty(progress)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
            optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * progress))
            optimizer.step()
    model.eval()


def prune(dense: nn.Module, clips: Clips, *, part: float, epochs: int, seed: int) -> nn.Module:
    """Prune the dense model to `part` of its recurrent weights; returns the small one."""
    gated = l0gate.gate(
        copy.deepcopy(dense),
        example_inputs=(clips.features[0][:, None],),
        budget=l0gate.Budget(parameters=part, of="recurrent"),
        seed=seed,
    )
    train(
        gated, gated.param_groups(lr=3e-3), clips, epochs=epochs, seed=seed, penalty=gated.penalty
    )
    return gated.shrink()


# Speed ----------------------------------------------------------------------------------------


def speeds(dense: nn.Module, small: nn.Module, path: Path, clips: Clips) -> dict[str, Any]:
    """Times of the dense and the small model: microseconds per frame of 10 ms, at batch 1.

    The models take turns over the same clips; `ratio` is the median over rounds of the dense time
    divided by the small time.
    """
    features = [clip[:, None] for clip in clips.features[::10]]
    frames = sum(map(len, features))
    parameters = {name: p.detach().numpy().copy() for name, p in dense.named_parameters()}
    described = l0gate.get_backend("numpy").net(l0gate.load(path).saved.chain.layers)
    found = {"torch, whole clips": [_whole(model, features) for model in (dense, small)]}
    arrays = [clip.numpy() for clip in features]
    for engine in ("numpy", "numba"):
        nets = (described.bind(parameters, engine=engine), l0gate.load(path, engine=engine))
        found[f"{engine}, whole clips"] = [_whole(net, arrays) for net in nets]
        found[f"{engine}, frame by frame"] = [_frames(net, arrays) for net in nets]
    return {name: compare(*runs, frames) for name, runs in found.items()}


def _whole(net: Any, clips: Sequence[Any]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            for clip in clips:
                net(clip)

    return run


def _frames(net: Any, clips: Sequence[np.ndarray]) -> Callable[[], None]:
    def run() -> None:
        for clip in clips:
            state = None
            for frame in clip[:, 0]:
                _, state = net.step(frame, state)

    return run


def compare(
    dense: Callable[[], None], small: Callable[[], None], frames: int, rounds: int = 15
) -> dict[str, float]:
    """Microseconds per frame of two runs, and the ratio of their times."""
    dense(), small()
    times = [(_timed(dense), _timed(small)) for _ in range(rounds)]
    return {
        "dense": 1e6 * statistics.median(d for d, _ in times) / frames,
        "small": 1e6 * statistics.median(s for _, s in times) / frames,
        "ratio": statistics.median(d / s for d, s in times),
    }


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# Report ---------------------------------------------------------------------------------------


def sizes(model: Any) -> dict[str, int]:
    """The numbers of hidden neurons, of all parameters, and of recurrent weights."""
    weights = dict(model.named_parameters())
    return {
        "hidden": model.rnn.hidden_size,
        "parameters": sum(p.numel() for p in weights.values()),
        "recurrent": sum(p.numel() for name, p in weights.items() if name.startswith("rnn.weight")),
    }


def report(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and prune one net, compare and time both; returns a row of results."""
    known, test = read(options.data)
    path = options.out / f"{options.unit.lower()}_{seed}.npz"
    torch.manual_seed(seed)
    dense = Digits(options.unit, known.features[0].shape[1], options.hidden)
    begin = time.perf_counter()
    groups = [{"params": list(dense.parameters()), "lr": 3e-3}]
    train(dense, groups, known, epochs=options.epochs, seed=seed)
    half = time.perf_counter()
    small = prune(dense, known, part=options.part, epochs=options.epochs, seed=seed + 1)
    end = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    l0gate.save(path, small)
    return {
        "unit": options.unit,
        "seed": seed,
        "epochs": options.epochs,
        "accuracy": [accuracy(model, test) for model in (dense, small)],
        "sizes": [sizes(model) for model in (dense, small)],
        "certificate": {
            "float64": small.certificate.max_abs_difference,
            "float32": small.certificate.max_abs_difference_float32,
        },
        "training_seconds": [half - begin, end - half],
        "microseconds_per_frame": speeds(dense, small, path, test),
        "machine": machine(),
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
        "numpy": np.__version__,
        "l0gate": l0gate.__version__,
    }


COLUMNS = ("net", "seed", "hidden", "recurrent weights", "parameters", "accuracy", "certificate")


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables: what was kept, and how fast it is (microseconds per frame)."""
    kept = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for row in rows:
        dense, small = row["sizes"]
        kept.append(
            (
                row["unit"],
                str(row["seed"]),
                f"{dense['hidden']} -> {small['hidden']}",
                f"{dense['recurrent']:,} -> {small['recurrent']:,}"
                f" ({small['recurrent'] / dense['recurrent']:.1%})",
                f"{dense['parameters']:,} -> {small['parameters']:,}",
                "{:.1%} -> {:.1%}".format(*row["accuracy"]),
                f"{row['certificate']['float64']:.0e}",
            )
        )
    engines = list(rows[0]["microseconds_per_frame"])
    times = [("net", "seed", *engines), tuple("---" for _ in range(2 + len(engines)))]
    for row in rows:
        speed = row["microseconds_per_frame"]
        times.append(
            (
                row["unit"],
                str(row["seed"]),
                *(
                    f"{speed[e]['dense']:.1f} -> {speed[e]['small']:.1f} ({speed[e]['ratio']:.2f})"
                    for e in engines
                ),
            )
        )
    return "\n\n".join("\n".join(f"| {' | '.join(x)} |" for x in t) for t in (kept, times))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("L0GATE_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=None if data is None else Path(data) / "fsdd",
        help=f"folder with {FILE}; default: fsdd in L0GATE_DATA",
    )
    parser.add_argument("--unit", choices=["LSTM", "GRU"], default="LSTM")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument(
        "--part", type=float, default=0.15, help="fraction of recurrent weights to keep"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of each of the two trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--out", type=Path, default=Path("runs/speech"), help="for small models")
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.data is None or not (options.data / FILE).is_file():
        parser.error(f"--data is {options.data}; it must be a folder with {FILE}")
    torch.set_num_threads(1)  # more threads do not help a net of this size
    rows = []
    for seed in options.seeds:
        rows.append(report(seed, options))
        dense, small = rows[-1]["accuracy"]
        print(f"{options.unit}, seed {seed}: {dense:.1%} -> {small:.1%}", flush=True)
    print(f"\n{tables(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
