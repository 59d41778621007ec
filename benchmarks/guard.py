"""A quick check for every change: no speed relative to ONNX Runtime or torch has dropped by a
third.

A few nets run in turns with ONNX Runtime or torch, on one thread. The ratios of their times are
compared with those in `results/guard.json` for a processor with the same vector instructions; if it
has none, with the lowest of all processors. If a ratio is more than 1.5 times lower, it is measured
up to three times more; if all results are too low, the check fails. Times are not compared, because
they depend on the machine.

    python benchmarks/guard.py           # takes a minute at most
    python benchmarks/guard.py --write   # after an intended change, on an idle machine
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _scripts
import _timing
from _tables import Table

PATH = _scripts.RESULTS / "guard.json"
WORSE = 1.5
RETRIES = 3
SEQUENCES = (  # cell, input, hidden, batch, length
    ("lstm", 1, 20, 1, 200),
    ("gru", 64, 64, 1, 35),
    ("lstm", 64, 128, 10, 35),
    ("gru", 300, 260, 64, 10),
    ("lstm", 650, 650, 1, 10),
)
STEPS = (("lstm", 20, 20), ("gru", 128, 128))
TRAINING = (("lstm", 128, 16), ("gru", 256, 32))  # cell, hidden, batch
SECONDS = 0.8


def ratios() -> dict[str, Callable[[], float]]:
    """The checked ratios by name: functions that measure how many times faster l0gate is."""
    made: dict[str, Callable[[], float]] = {}
    for cell, inputs, hidden, batch, length in SEQUENCES:
        name = f"{cell} {inputs} -> {hidden}, {batch} x {length}, beside ONNX Runtime"
        made[name] = partial(_sequence, cell, inputs, hidden, batch, length)
    for cell, inputs, hidden in STEPS:
        name = f"{cell} {inputs} -> {hidden}, single steps, beside ONNX Runtime"
        made[name] = partial(_step, cell, inputs, hidden)
    for cell, hidden, batch in TRAINING:
        made[f"{cell} {hidden} x {batch}, training, beside torch"] = partial(
            _training, cell, hidden, batch
        )
    return made


def _sequence(cell: str, inputs: int, hidden: int, batch: int, length: int) -> float:
    from _nets import Spec
    from _runtimes import agreeing, inference, runtimes

    spec = Spec(cell, inputs, (hidden,))
    sides, x = runtimes(spec, threads=1), spec.x(length, batch)
    with inference():
        calls = agreeing({name: sides[name].sequence(x) for name in ("l0gate", "onnxruntime")})
        return _faster(calls, "onnxruntime")


def _step(cell: str, inputs: int, hidden: int) -> float:
    from _nets import Spec
    from _runtimes import agreeing, inference, runtimes

    spec = Spec(cell, inputs, (hidden,))
    sides, x = runtimes(spec, threads=1), spec.x(1, 1)[0, 0]
    with inference():
        calls = {name: sides[name].stream(x) for name in ("l0gate", "onnxruntime")}
        return _faster(agreeing(calls, steps=3), "onnxruntime")


def _training(cell: str, hidden: int, batch: int) -> float:
    from training_steps_keep_up_with_torch import steps

    calls = steps(cell, hidden, batch, threads=1)
    return _faster({name: calls[name] for name in ("l0gate", "torch")}, "torch")


def _faster(calls: dict[str, Callable[[], Any]], than: str) -> float:
    times = _timing.in_turns(calls, seconds=SECONDS)
    return _timing.times_faster(times, "l0gate", than)


def expected(known: dict[str, Any], isa: str) -> dict[str, float]:
    """The committed ratios for a processor with these vector instructions, or else the lowest ones.

    >>> known = {"AVX2": {"ratios": {"a": 2.0}}, "AVX-512": {"ratios": {"a": 3.0}}}
    >>> expected(known, "AVX-512"), expected(known, "NEON")
    ({'a': 3.0}, {'a': 2.0})
    """
    if isa in known:
        return dict(known[isa]["ratios"])
    all_ratios = [entry["ratios"] for entry in known.values()]
    names = {name for ratios in all_ratios for name in ratios}
    return {name: min(r[name] for r in all_ratios if name in r) for name in sorted(names)}


def worse(measured: float, committed: float) -> bool:
    """Whether a ratio is more than `WORSE` times lower than the committed one.

    >>> worse(2.1, 3.0), worse(1.9, 3.0)
    (False, True)
    """
    return measured * WORSE < committed


def guard(
    measures: dict[str, Callable[[], float]], committed: dict[str, float]
) -> tuple[Table, list[str]]:
    """Measure all ratios. Returns their table, and the names of those that stay too low."""
    rows, failed = [], []
    for name, measure in measures.items():
        if name not in committed:
            raise SystemExit(f"{PATH.name} has no ratio for {name!r}; measure it with --write")
        ratio = measure()
        for _ in range(RETRIES):
            if not worse(ratio, committed[name]):
                break
            ratio = max(ratio, measure())
        if worse(ratio, committed[name]):
            failed.append(name)
        rows.append((name, ratio, committed[name], "worse" if name in failed else "fine"))
        print(f"{name}: {ratio:.2f}, committed {committed[name]:.2f}", flush=True)
    return Table("Times faster", ("net", "now", "committed", ""), rows), failed


def write(known: dict[str, Any], measures: dict[str, Callable[[], float]]) -> None:
    """Write the ratios for this kind of processor: each the median of three measurements."""
    machine = _timing.machine()
    found = {}
    for name, measure in measures.items():
        found[name] = _timing.digits(statistics.median(measure() for _ in range(3)))
        print(f"{name}: {found[name]:.2f}", flush=True)
    known[machine["isa"]] = {"machine": machine, "ratios": found}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(known, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="write the ratios of this machine to the file"
    )
    options = parser.parse_args()
    # One thread in every library; must be set before NumPy is imported.
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in _scripts.THREADS})
    known: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
    measures = ratios()
    if options.write:
        write(known, measures)
        return
    if not known:
        raise SystemExit(f"there is no {Path(PATH).name} yet; measure it with --write")
    table, failed = guard(measures, expected(known, _timing.machine()["isa"]))
    print(f"\n{table.text()}")
    if failed:
        sys.exit(f"worse by half, {RETRIES + 1} times over: " + "; ".join(failed))


if __name__ == "__main__":
    main()
