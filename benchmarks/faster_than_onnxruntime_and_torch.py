"""Claim: on a CPU, l0gate's compiled nets are the fastest way to run a small LSTM or GRU in Python.

One layer runs whole sequences, compared with ONNX Runtime and with `torch.nn.LSTM`/`GRU` (eager,
inference mode), on one and on two threads, over the grid below. The claims are about the geometric
mean of the speed over the grid:
- one thread: at least 1.0 times the speed of ONNX Runtime and 1.5 times that of torch;
- one thread, batch 1, up to 64 neurons: at least 2 times ONNX Runtime and 8 times torch;
- two threads: at least 1.0 times the faster of both.
Besides, on one thread no net is slower than 0.7 times the speed of ONNX Runtime. ONNX Runtime is
called with arrays (`run`); its speed with buffers that are bound beforehand ("bound") is listed
too.

Nets with more than 10^10 multiply-adds per call are left out, because they would take too long. The
outputs must agree to 1e-4 before anything is timed. The runtimes take turns; a ratio is the median
over rounds of their time divided by ours.

    python benchmarks/faster_than_onnxruntime_and_torch.py [--quick] [--threads 1 2] [--seconds 1]
        [--only hidden=8,20 batch=1] [--json FILE] [--plot FILE]

The grid takes about an hour; with --json an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results, Row
from _tables import Limit, Table
from _timing import mean

GRID: dict[str, tuple[Any, ...]] = {
    "cell": ("lstm", "gru"),
    "input": (1, 16, 64, 300, 1500),
    "hidden": (8, 20, 64, 128, 300, 650, 1500),
    "batch": (1, 10, 64),
    "length": (1, 35, 200),
}
QUICK = {"input": (16, 300), "hidden": (8, 64, 300), "batch": (1, 10), "length": (1, 35)}
MULTIPLY_ADDS = 1e10
# The last is the faster of ONNX Runtime and torch, round by round.
SIDES = ("onnxruntime", "bound", "torch", "best")
KEYS = (*GRID, "threads")


def shapes(quick: bool, only: dict[str, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """The points of the grid; all points of one net come one after the other."""
    from _nets import Spec

    grid = GRID | (QUICK if quick else {})
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        spec = Spec(point["cell"], point["input"], (point["hidden"],))
        if spec.multiply_adds * point["batch"] * point["length"] > MULTIPLY_ADDS:
            continue
        if all(str(point[name]) in allowed for name, allowed in only.items()):
            yield point


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    from _nets import Spec
    from _runtimes import agreeing, inference, runtimes

    points = list(shapes(options.quick, dict(options.only)))
    net = None
    for number, point in enumerate(points):
        if results.has(**point, threads=threads):
            continue
        spec = Spec(point["cell"], point["input"], (point["hidden"],))
        if net != spec:
            net, sides = spec, runtimes(spec, threads)
        x = spec.x(point["length"], point["batch"])
        with inference():
            calls = agreeing({name: side.sequence(x) for name, side in sides.items()})
            times = _timing.in_turns(calls, seconds=options.seconds, pause=0.02 * (threads > 1))
        row = point | {"threads": threads} | _timing.summary(times, "l0gate")
        best = [min(pair) for pair in zip(times["onnxruntime"], times["torch"], strict=True)]
        row["faster"]["best"] = _timing.times_faster({**times, "best": best}, "l0gate", "best")
        results.add(row)
        print(
            f"{number + 1:4}/{len(points)}  {threads} threads  {point['cell']:4}"
            f" {point['input']:4} -> {point['hidden']:4}  {point['batch']:2} x {point['length']:3}"
            f"  {row['us']['l0gate']:10.1f} us, faster than "
            + ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["faster"].items()),
            flush=True,
        )


def tables(report: Report) -> list[Table]:
    made = []
    for threads in sorted({row["threads"] for row in report["rows"]}):
        rows = [row for row in report["rows"] if row["threads"] == threads]
        slices = [("all", rows)]
        for name, values in GRID.items():
            for value in values:
                slices.append((f"{name} {value}", [row for row in rows if row[name] == value]))
        columns = ("part of the grid", "nets", "beside ONNX Runtime", "beside it, bound")
        columns += ("beside torch", "beside the faster", "least beside ONNX Runtime")
        body = [
            [name, len(part), *(_mean(part, side) for side in SIDES), _least_of(part)]
            for name, part in slices
            if part
        ]
        made.append(Table(f"{_threads(threads)}: times faster, geometric means", columns, body))
        made.append(_by_size(rows, threads))
        made.append(_least(rows, threads))
    return made


def _by_size(rows: list[Row], threads: int) -> Table:
    """Times faster by the number of neurons and the batch size."""
    batches = GRID["batch"]
    body = []
    for hidden in GRID["hidden"]:
        line: list[Any] = [hidden]
        for side in ("onnxruntime", "torch"):
            for batch in batches:
                part = [row for row in rows if (row["hidden"], row["batch"]) == (hidden, batch)]
                line.append(_mean(part, side))
        body.append(line)
    names = [f"{side}, batch {batch}" for side in ("ONNX Runtime", "torch") for batch in batches]
    return Table(f"{_threads(threads)}: times faster than", ("hidden", *names), body)


def _least(rows: list[Row], threads: int) -> Table:
    worst = sorted(rows, key=lambda row: row["faster"]["onnxruntime"])[:8]
    body = [
        [*(row[name] for name in GRID), *row["us"].values()]
        + [row["faster"][side] for side in SIDES]
        for row in worst
    ]
    columns = (*GRID, "l0gate, us", "ONNX Runtime", "bound", "torch")
    columns += ("times faster", "than bound", "than torch", "than the faster")
    return Table(f"{_threads(threads)}: least ahead of ONNX Runtime", columns, body)


def _threads(threads: int) -> str:
    return "One thread" if threads == 1 else f"{threads} threads"


def _mean(rows: list[Row], side: str) -> float:
    return mean(row["faster"][side] for row in rows)


def _least_of(rows: list[Row]) -> float:
    return min((row["faster"]["onnxruntime"] for row in rows), default=math.nan)


def limits(report: Report) -> list[Limit]:
    one, two = ([row for row in report["rows"] if row["threads"] == n] for n in (1, 2))
    small = [row for row in one if row["hidden"] <= 64 and row["batch"] == 1]
    return [
        Limit("sequences, 1 thread, beside ONNX Runtime", _mean(one, "onnxruntime"), at_least=1.0),
        Limit("sequences, 1 thread, beside torch", _mean(one, "torch"), at_least=1.5),
        Limit(
            "sequences, hidden <= 64, batch 1, beside ONNX Runtime",
            _mean(small, "onnxruntime"),
            at_least=2.0,
        ),
        Limit(
            "sequences, hidden <= 64, batch 1, beside torch", _mean(small, "torch"), at_least=8.0
        ),
        Limit("sequences, 1 thread, least beside ONNX Runtime", _least_of(one), at_least=0.7),
        Limit("sequences, 2 threads, beside the faster of both", _mean(two, "best"), at_least=1.0),
    ]


def plot(path: Path, report: Report) -> None:
    """How many times faster over hidden size: a line per batch size, with the range shaded."""
    made, axes = _plots.figure(2)
    rows = [row for row in report["rows"] if row["threads"] == 1] or report["rows"]
    sides = (("onnxruntime", "ONNX Runtime"), ("torch", "torch"))
    for axis, (side, title) in zip(axes, sides, strict=True):
        for batch in GRID["batch"]:
            part = [row for row in rows if row["batch"] == batch]
            sizes = sorted({row["hidden"] for row in part})
            if not sizes:
                continue
            ratios = [[r["faster"][side] for r in part if r["hidden"] == size] for size in sizes]
            (line,) = axis.plot(sizes, list(map(mean, ratios)), "o-", label=f"batch {batch}")
            low, high = list(map(min, ratios)), list(map(max, ratios))
            axis.fill_between(sizes, low, high, color=line.get_color(), alpha=0.12, lw=0)
        axis.axhline(1, color="black", lw=1)
        _plots.log_axes(axis, x=GRID["hidden"], y=(0.5, 1, 2, 4, 8, 16, 32, 64))
        axis.set(title=f"beside {title}", xlabel="hidden size", ylabel="times faster")
    axes[0].legend(frameon=False)
    _plots.save(made, path)


def _only(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, values = text.partition("=")
    if name not in GRID or not values:
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE,... of {', '.join(GRID)}")
    return name, tuple(values.split(","))


def main() -> None:
    parser = _scripts.parser(__doc__, threads=(1, 2))
    parser.add_argument("--only", type=_only, nargs="+", default=[], help="part of the grid")
    _scripts.run(sys.modules[__name__], parser.parse_args())


if __name__ == "__main__":
    main()
