"""Measures how much faster the pruned nets of the table run than the dense ones, in each engine.

    python benchmarks/penn_treebank/speed.py [--results FOLDER] [--seconds 1]

Reads the sizes from the results of train.py, and times the recurrent layers over 35 steps, dense
and pruned, at batch 1, 10 and 20, in torch, ONNX Runtime and l0gate's compiled cells, all in turns
in one process on one thread. Weights are random, because they do not affect the time. Writes
speed.json beside the results; table.py puts it into the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import _scripts  # noqa: E402
import _timing  # noqa: E402

BATCHES, LENGTH = (1, 10, 20), 35
ENGINES = ("l0gate", "onnxruntime", "torch")


def pairs(rows: list[dict[str, Any]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(dense sizes, pruned sizes) of all pruned nets in the results, each once."""
    found = {}
    for row in rows:
        if row["options"]["method"] not in ("dense", "direct"):
            dense = next(
                r["sizes"]
                for r in rows
                if r["options"]["method"] == "dense"
                and r["options"]["model"] == row["options"]["model"]
            )
            found[tuple(dense), tuple(row["sizes"])] = None
    return list(found)


def measured(dense: tuple[int, ...], small: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """The speedups by batch size and engine, and the times in milliseconds."""
    from _nets import Spec
    from _runtimes import agreeing, inference, runtimes

    specs = {
        name: Spec("lstm", sizes[0], tuple(sizes[1:]))
        for name, sizes in (("dense", dense), ("small", small))
    }
    sides = {name: runtimes(spec, 1) for name, spec in specs.items()}
    result: dict[str, Any] = {"dense": list(dense), "small": list(small)}
    for batch in BATCHES:
        calls: dict[str, Any] = {}
        with inference():
            for name, engines in sides.items():
                x = specs[name].x(LENGTH, batch)
                own = agreeing({engine: engines[engine].sequence(x) for engine in ENGINES})
                calls |= {f"{engine} {name}": call for engine, call in own.items()}
            times = _timing.in_turns(calls, seconds=seconds)
        result[f"batch {batch}"] = {
            "faster": {
                engine: _timing.times_faster(times, f"{engine} small", f"{engine} dense")
                for engine in ENGINES
            },
            "us": _timing.summary(times, "l0gate small")["us"],
        }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    for library in _scripts.THREADS:  # before any of them is loaded
        os.environ[f"{library}_NUM_THREADS"] = "1"
    from l0gate.files import write_atomically

    rows = [json.loads(p.read_text()) for p in sorted(given.results.glob("*-seed*.json"))]
    found = []
    for dense, small in pairs(rows):
        found.append(measured(dense, small, given.seconds))
        print(f"{dense} -> {small}: {found[-1]['batch 1']['faster']}", flush=True)
    report = {
        "command": shlex.join(["python", "benchmarks/penn_treebank/speed.py", *sys.argv[1:]]),
        "machine": _timing.machine(),
        "rows": found,
    }
    content = json.dumps(report, indent=2) + "\n"
    write_atomically(given.results / "speed.json", content.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
