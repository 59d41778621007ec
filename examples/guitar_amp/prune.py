"""Halve the hidden neurons of trained guitar amplifier models, by distillation from the original.

    python examples/guitar_amp/prune.py --data DIR [--model NAME ...] [--json FILE]

DIR holds amplifier models as JSON (see the README here). For each model, a gated copy is trained on
generated signals to sound like the original, and shrunk. The small model is compared with the
original on other signals, and both are timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import guitar
import numpy as np
import torch
from torch import Tensor, nn

import l0gate

STREAMS = 32  # sequences in the training batch
CHUNK = 128  # samples per step of truncated backpropagation
TIMED = 0.25  # seconds of sound on which speed is measured
BLOCK = 128  # samples that an audio host hands over at a time
PRE_EMPHASIS = 0.85  # the coefficient a of the filter in `esr`
SEEDS = {"train": 1, "test": 2}  # of the generated signals; the gates have another seed


class Amplifier(nn.Module):
    """A recurrent layer and a linear one, over (time, batch, 1) samples.

    The amplifiers add their input to this output: see `play`.
    """

    def __init__(self, unit: str, hidden: int) -> None:
        super().__init__()
        self.rec = {"LSTM": nn.LSTM, "GRU": nn.GRU}[unit](1, hidden)
        self.lin = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.rec(x, state)
        return self.lin(y), state


def read_model(path: Path) -> Amplifier:
    """An amplifier from its JSON file; another architecture raises."""
    stored = json.loads(path.read_text())
    facts = stored["model_data"]
    expected = {"input_size": 1, "output_size": 1, "num_layers": 1, "skip": 1}
    found = {name: facts[name] for name in expected}
    if found != expected or facts["unit_type"] not in ("LSTM", "GRU"):
        raise ValueError(f"{path}: this example reads {expected} with an LSTM or GRU, not {facts}")
    model = Amplifier(facts["unit_type"], facts["hidden_size"])
    model.load_state_dict({name: torch.tensor(v) for name, v in stored["state_dict"].items()})
    return model.eval()


def play(model: nn.Module, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """The sound of the amplifier: the model's output plus its input x; and the new state."""
    y, state = model(x, state)
    return y + x, state


def streams(samples: np.ndarray, batch: int) -> Tensor:
    """The samples as `batch` parallel streams: (time, batch, 1)."""
    steps = len(samples) // batch
    return torch.tensor(samples[: steps * batch].reshape(batch, steps).T.copy())[..., None]


def esr(y: Tensor, target: Tensor, pre_emphasis: float = 0.0) -> Tensor:
    """Error-to-signal ratio: the energy of y - target over that of target, a scalar.

    With pre-emphasis, both are filtered by 1 - a / z, which emphasises high frequencies as ears do.
    """
    error = y - target
    if pre_emphasis:
        error, target = (s[1:] - pre_emphasis * s[:-1] for s in (error, target))
    return error.square().sum() / (target.square().sum() + 1e-9)


def loss(y: Tensor, target: Tensor) -> Tensor:
    """The mean of both error-to-signal ratios."""
    return 0.5 * (esr(y, target) + esr(y, target, PRE_EMPHASIS))


def half_of(model: Amplifier) -> l0gate.Budget:
    """A budget of half of the hidden neurons, selected early, so that the rest can adapt."""
    blocks = model.rec.weight_hh_l0.shape[0] // model.rec.hidden_size
    hidden = model.rec.hidden_size // 2
    weights = blocks * hidden * (1 + hidden)
    return l0gate.Budget(parameters=weights, of="recurrent", warmup=0.15, settle=0.25)


def distil(teacher: Amplifier, x: Tensor, *, steps: int, rate: float = 1e-2, seed: int = 0) -> Any:
    """Train a gated copy to sound like the teacher on x, (time, batch, 1); returns it."""
    with torch.no_grad():
        target, _ = play(teacher, x)
    student, example = copy.deepcopy(teacher).train(), x[:64, :2]
    gated = l0gate.gate(student, example_inputs=(example,), budget=half_of(teacher), seed=seed)
    optimizer = torch.optim.Adam(gated.param_groups(lr=rate))
    weights = optimizer.param_groups[0]
    starts = range(0, len(x) - CHUNK + 1, CHUNK)
    state: Any = None
    for step in range(steps):
        start = starts[step % len(starts)]
        state = None if start == 0 else _detached(state)
        progress = (step + 1) / steps
        # The gates are drawn once per optimizer step, so they are the same through the chunk.
        y, state = play(gated, x[start : start + CHUNK], state)
        value = loss(y, target[start : start + CHUNK]) + gated.penalty(progress)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(weights["params"], 1.0)
        weights["lr"] = rate * schedule(progress)
        optimizer.step()
    return gated


def schedule(progress: float) -> float:
    """The learning rate relative to its peak: constant until the selection, then half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - 0.25) / 0.75)))


def _detached(state: Any) -> Any:
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def errors(small: nn.Module, teacher: nn.Module, x: Tensor) -> dict[str, float]:
    """Both error-to-signal ratios of the small model, with the teacher's sound as the target."""
    with torch.no_grad():
        y, target = play(small, x)[0], play(teacher, x)[0]
        return {"esr": float(esr(y, target)), "esr_pre": float(esr(y, target, PRE_EMPHASIS))}


# Speed ----------------------------------------------------------------------------------------


def speeds(teacher: Amplifier, small: nn.Module, path: Path, rounds: int = 9) -> dict[str, Any]:
    """The speed of both models at batch 1: in blocks, all in one call, and sample by sample.

    The unit is times real time: seconds of sound per second of computing. The models take turns;
    `ratio` is the median over rounds of the dense time divided by the small time.
    """
    x = guitar.signal(TIMED, seed=3)
    parameters = {name: p.detach().numpy().copy() for name, p in teacher.named_parameters()}
    file = l0gate.load(path)
    found = {
        "torch blocks": [_torch_blocks(model, x, BLOCK) for model in (teacher, small)],
        "torch whole": [_torch_blocks(model, x, len(x)) for model in (teacher, small)],
    }
    for engine in ("numpy", "numba"):
        dense = l0gate.get_backend("numpy").net(file.saved.chain.layers)
        nets = (dense.bind(parameters, engine=engine), l0gate.load(path, engine=engine))
        found[f"{engine} blocks"] = [_blocks(net, x, BLOCK) for net in nets]
        found[f"{engine} whole"] = [_blocks(net, x, len(x)) for net in nets]
        found[f"{engine} samples"] = [_samples(net, x) for net in nets]
    return {name: compare(*runs, len(x) / guitar.RATE, rounds) for name, runs in found.items()}


def _torch_blocks(model: nn.Module, x: np.ndarray, size: int) -> Callable[[], None]:
    blocks = torch.tensor(x)[:, None, None].split(size)

    def run() -> None:
        state = None
        with torch.inference_mode():
            for block in blocks:
                _, state = play(model, block, state)

    return run


def _blocks(net: Any, x: np.ndarray, size: int) -> Callable[[], None]:
    blocks = np.split(x[:, None, None], range(size, len(x), size))

    def run() -> None:
        state = None
        for block in blocks:
            y, state = net(block, state)
            y += block

    return run


def _samples(net: Any, x: np.ndarray) -> Callable[[], None]:
    samples = list(x[: len(x) // 4, None])

    def run() -> None:
        state = None
        for _ in range(4):  # as much work as for the blocks, without 4 times the memory
            for sample in samples:
                y, state = net.step(sample, state)
                y += sample

    return run


def compare(
    dense: Callable[[], None], small: Callable[[], None], seconds: float, rounds: int
) -> dict[str, float]:
    """The speeds of two runs over `seconds` of sound, in times real time, and their ratio."""
    dense(), small()
    times = [(_timed(dense), _timed(small)) for _ in range(rounds)]
    return {
        "dense": seconds / statistics.median(d for d, _ in times),
        "small": seconds / statistics.median(s for _, s in times),
        "ratio": statistics.median(d / s for d, s in times),
    }


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# Report ---------------------------------------------------------------------------------------


def report(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Prune, compare and time one amplifier; returns its row of results."""
    teacher, file = read_model(path), options.out / f"{path.stem}.npz"
    test = streams(guitar.signal(options.test_seconds, SEEDS["test"]), 10)
    if options.measure:
        row = json.loads(file.with_suffix(".json").read_text())
        small = l0gate.load(file, into=Amplifier(teacher.rec.mode, teacher.rec.hidden_size)).eval()
    else:
        x = streams(guitar.signal(options.train_seconds, SEEDS["train"]), STREAMS)
        begin = time.perf_counter()
        gated = distil(teacher, x, steps=options.steps, seed=options.seed)
        took = time.perf_counter() - begin
        small = gated.eval().shrink()
        options.out.mkdir(parents=True, exist_ok=True)
        l0gate.save(file, small, metadata={"sample_rate": guitar.RATE, "add_input": True})
        row = {
            "model": path.stem,
            "unit": teacher.rec.mode,
            "hidden": [teacher.rec.hidden_size, small.rec.hidden_size],
            "parameters": [sum(p.numel() for p in m.parameters()) for m in (teacher, small)],
            "certificate": {
                "float64": small.certificate.max_abs_difference,
                "float32": small.certificate.max_abs_difference_float32,
            },
            "seed": options.seed,
            "steps": options.steps,
            "training_seconds": took,
        }
    row |= errors(small, teacher, test) | {"times_real_time": speeds(teacher, small, file)}
    row["machine"] = machine()
    file.with_suffix(".json").write_text(json.dumps(row, indent=2) + "\n")
    return row


def machine() -> dict[str, Any]:
    """The machine and the versions that the results were measured with."""
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "l0gate": l0gate.__version__,
    }


def processor() -> str:
    """The name of the processor, or "unknown"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


COLUMNS = (
    "model",
    "unit",
    "steps",
    "hidden",
    "parameters",
    "ESR",
    "with pre-emphasis",
    "certificate",
)
TIMES = ("torch blocks", "torch whole", "numba blocks", "numba whole", "numba samples")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; speeds are times real time, dense -> small (ratio)."""
    head = (*COLUMNS, *TIMES)
    lines = [head, tuple("---" for _ in head), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    times = (row["times_real_time"][name] for name in TIMES)
    speed = [f"{t['dense']:.1f} -> {t['small']:.1f} ({t['ratio']:.2f})" for t in times]
    return (
        row["model"],
        row["unit"],
        f"{row['steps']:,}",
        "{} -> {}".format(*row["hidden"]),
        "{:,} -> {:,}".format(*row["parameters"]),
        f"{100 * row['esr']:.2f}%",
        f"{100 * row['esr_pre']:.2f}%",
        f"{row['certificate']['float64']:.0e}",
        *speed,
    )


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("L0GATE_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=None if data is None else Path(data) / "models" / "guitar_amp",
        help="folder of amplifier models; default: models/guitar_amp in L0GATE_DATA",
    )
    parser.add_argument(
        "--model", nargs="*", help="models in that folder, without .json; default: all"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/guitar_amp"), help="folder of the small models"
    )
    parser.add_argument(
        "--measure", action="store_true", help="compare and time the models in --out; no training"
    )
    parser.add_argument("--steps", type=int, default=4000, help="of training")
    parser.add_argument("--train-seconds", type=float, default=60.0)
    parser.add_argument("--test-seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error(f"--data is {options.data}; it must be a folder of amplifier models")
    names = options.model or sorted(path.stem for path in options.data.glob("*.json"))
    torch.set_num_threads(1)  # more threads do not help layers of this size
    rows = []
    for name in names:
        rows.append(report(options.data / f"{name}.json", options))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
