"""Claim: pruning two layers of 1500 neurons to (373, 315) makes them 15 times faster at batch 1,
and 20 times faster if the 1500 inputs are pruned to 600 as well.

Each dense net and its small net run 35 time steps in l0gate's compiled kernels, in ONNX Runtime and
in torch (eager, inference mode). The results are the speedup in each engine, and the factor by
which the number of multiply-adds shrinks. The claims are about l0gate, for an LSTM on one thread.
Weights are random, because they do not affect the time. All six take turns; a speedup is the median
over rounds of the dense time divided by the small time in the same round.

    python benchmarks/pruned_nets_are_faster_in_every_engine.py [--quick] [--threads 1]
        [--seconds 1] [--json FILE] [--plot FILE]

Takes about five minutes and 3 GB of memory on one thread.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results, Row
from _tables import Limit, Table

# input and hidden sizes, dense and small
PAIRS = (
    ((1500, (1500, 1500)), (1500, (373, 315))),
    ((1500, (1500, 1500)), (600, (373, 315))),
    ((650, (650, 650)), (300, (260, 240))),
    ((200, (200, 200)), (64, (40, 40))),
)
CELLS, BATCHES, LENGTH = ("lstm", "gru"), (1, 10, 20), 35
KEYS = ("cell", "dense", "small", "batch", "threads")
ENGINES = {"l0gate": "l0gate", "onnxruntime": "ONNX Runtime", "torch": "torch"}


def sizes(net: tuple[int, tuple[int, ...]]) -> str:
    """The sizes of a net, as a table shows them.

    >>> sizes((600, (373, 315)))
    '600: 373 + 315'
    """
    return f"{net[0]}: {' + '.join(map(str, net[1]))}"


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    from _nets import Spec
    from _runtimes import agreeing, inference, runtimes

    for cell in CELLS:
        for dense, small in PAIRS[-1:] if options.quick else PAIRS:
            key = {"cell": cell, "dense": sizes(dense), "small": sizes(small), "threads": threads}
            if all(results.has(**key, batch=batch) for batch in BATCHES):
                continue
            specs = {"dense": Spec(cell, *dense), "small": Spec(cell, *small)}
            sides = {name: runtimes(spec, threads) for name, spec in specs.items()}
            less = specs["dense"].multiply_adds / specs["small"].multiply_adds
            for batch in BATCHES:
                if results.has(**key, batch=batch):
                    continue
                with inference():
                    calls: dict[str, Any] = {}
                    for name, engines in sides.items():
                        x = specs[name].x(LENGTH, batch)
                        own = {engine: engines[engine].sequence(x) for engine in ENGINES}
                        own = agreeing(own)
                        calls |= {f"{engine} {name}": call for engine, call in own.items()}
                    pause = 0.02 * (threads > 1)
                    times = _timing.in_turns(calls, seconds=options.seconds, pause=pause)
                row = key | {"batch": batch, "less": _timing.digits(less), **_summary(times)}
                results.add(row)
                figures = ", ".join(f"{name} {ratio:.1f}" for name, ratio in row["speedup"].items())
                print(
                    f"{cell:4} {row['dense']} -> {row['small']}, batch {batch:2},"
                    f" {threads} threads: {less:.1f} times less, faster: {figures}",
                    flush=True,
                )


def _summary(times: dict[str, list[float]]) -> Row:
    """All times, the speedups in each engine, and that from dense in torch to small in l0gate."""

    def speedup(before: str, after: str) -> float:
        return _timing.times_faster(times, f"{after} small", f"{before} dense")

    return {
        "us": _timing.summary(times, "l0gate small")["us"],
        "speedup": {engine: speedup(engine, engine) for engine in ENGINES},
        "from_torch": speedup("torch", "l0gate"),
    }


def tables(report: Report) -> list[Table]:
    columns = ("cell", "dense", "small", "batch", "threads", "multiply-adds, times less")
    columns += tuple(f"{name}, times faster" for name in ENGINES.values())
    columns += ("dense in torch to small in l0gate",)
    keys = columns[:5]
    speeds = [
        [*(row[key] for key in keys), row["less"], *row["speedup"].values(), row["from_torch"]]
        for row in report["rows"]
    ]
    names = [f"{engine} {size}" for engine in ENGINES for size in ("dense", "small")]
    milliseconds = [
        [*(row[key] for key in keys), *(row["us"][name] / 1e3 for name in names)]
        for row in report["rows"]
    ]
    return [
        Table("Dense to small: times faster", columns, speeds),
        Table(f"Milliseconds for {LENGTH} steps", (*keys, *names), milliseconds),
    ]


def limits(report: Report) -> list[Limit]:
    def speedup(small: Any) -> float:
        found = [
            row["speedup"]["l0gate"]
            for row in report["rows"]
            if (row["cell"], row["batch"], row["threads"]) == ("lstm", 1, 1)
            and (row["dense"], row["small"]) == (sizes(PAIRS[0][0]), sizes(small))
        ]
        return found[0] if found else math.nan

    return [
        Limit("1500 + 1500 to 373 + 315, 1500 inputs", speedup(PAIRS[0][1]), at_least=15.0),
        Limit("1500 + 1500 to 373 + 315, 600 inputs", speedup(PAIRS[1][1]), at_least=20.0),
    ]


def plot(path: Path, report: Report) -> None:
    """Bars of the LSTM's speedup, in groups by pair, a panel per batch."""
    rows = [row for row in report["rows"] if row["cell"] == "lstm"]
    rows = [row for row in rows if row["threads"] == rows[0]["threads"]]
    made, axes = _plots.figure(len(BATCHES))
    for axis, batch in zip(axes, BATCHES, strict=True):
        part = [row for row in rows if row["batch"] == batch]
        for number, (engine, name) in enumerate(ENGINES.items()):
            at = [group + 0.22 * (number - 1) for group in range(len(part))]
            axis.bar(at, [row["speedup"][engine] for row in part], 0.2, label=name)
        for group, row in enumerate(part):
            axis.hlines(
                row["less"], group - 0.36, group + 0.36, color="black",
                label="multiply-adds" if group == 0 else None,
            )  # fmt: skip
        labels = [f"{row['dense']}\nto {row['small']}" for row in part]
        axis.set_xticks(range(len(part)), labels, fontsize=7)
        axis.set(title=f"batch {batch}", ylabel="times faster, times less" if batch == 1 else "")
        axis.grid(visible=False, axis="x")
    axes[0].legend(frameon=False)
    _plots.save(made, path)


def main() -> None:
    _scripts.run(sys.modules[__name__], _scripts.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
