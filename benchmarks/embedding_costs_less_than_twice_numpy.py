"""Claim: in a C program, a saved net costs less than twice what bare NumPy costs.

Each row is a C program of its own that starts Python and
- only imports NumPy;
- or reads a saved net and runs it with a few lines of bare NumPy;
- or loads the saved net with l0gate and runs it, with the engine "numpy" or "numba".

The table gives, on one thread, the time from a running Python until the net has run its first step
(ready), the resident memory at that time, and the median time of a step, measured in C. The claim
is about the engine "numpy", for all three. With numba, steps are faster than in bare NumPy, but the
other two cost far more.

The programs take turns, each in a fresh process. Compiled bytecode and numba's kernels are on disk.
Ratios to NumPy are taken within a round; the table shows their medians.

    python benchmarks/embedding_costs_less_than_twice_numpy.py [--rounds 9] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import _timing
import numpy as np

import l0gate

EMBED = Path(__file__).resolve().parents[1] / "examples" / "embed"
HIDDEN = (32, 128)
STEPS = 20_000
LAYERS = [{"type": "lstm", "name": "rnn"}, {"type": "linear", "name": "out"}]
BARE = """
import numpy as np

file = np.load({path!r})
w_ih, w_hh, b_ih, b_hh = (file[f"parameters/rnn.{{n}}_l0"]
                          for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
w_out, b_out = file["parameters/out.weight"], file["parameters/out.bias"]
bias, hidden = b_ih + b_hh, w_hh.shape[1]

def step(x, state):
    h, c = state
    a = w_ih @ x + w_hh @ h + bias
    i, f, _, o = (1 / (1 + np.exp(-a))).reshape(4, hidden)
    c = f * c + i * np.tanh(a[2 * hidden : 3 * hidden])
    h = o * np.tanh(c)
    return w_out @ h + b_out, (h, c)

x = np.ones(1, np.float32)
state = np.zeros((2, hidden), np.float32)
step(x, state)
"""


def write_net(folder: Path, hidden: int) -> tuple[Path, Path]:
    """Write a net to a file, and a program that runs it in bare NumPy; their outputs must agree."""
    net = l0gate.get_backend("numpy").net(LAYERS)
    sizes = {"rnn": hidden, "out": 1}
    parameters = net.init(np.random.default_rng(0), input_size=1, sizes=sizes)
    path, bare = folder / f"{hidden}.npz", folder / f"{hidden}.py"
    l0gate.save(path, net.bind(parameters))
    bare.write_text(BARE.format(path=str(path)))
    names: dict[str, object] = {}
    exec(bare.read_text(), names)
    theirs, _ = names["step"](names["x"], names["state"])  # type: ignore[operator]
    np.testing.assert_allclose(theirs, l0gate.load(path).step(names["x"])[0], rtol=1e-4, atol=1e-6)
    return path, bare


def measure(program: Path, arguments: list[str]) -> dict[str, float]:
    """The values that the program `measure.c` prints."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    result = subprocess.run(
        [program, sys.executable, *arguments],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name: float(value) for name, value in map(str.split, result.stdout.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = ["make", "-s", "-C", str(EMBED), f"PYTHON={sys.executable}", f"BUILD={folder}"]
        subprocess.run(build, check=True)
        engines = ["numpy"] + ["numba"] * (find_spec("numba") is not None)
        runs: dict[tuple[str, int], list[str]] = {("import numpy", 0): ["import", "numpy"]}
        for hidden in HIDDEN:
            path, bare = write_net(folder, hidden)
            runs["bare NumPy", hidden] = ["code", str(bare), str(STEPS)]
            for engine in engines:
                runs[f"l0gate, {engine}", hidden] = ["net", engine, str(path), str(STEPS)]
        for arguments in runs.values():  # writes bytecode and kernels
            measure(folder / "measure", arguments)
        rounds = [
            {key: measure(folder / "measure", arguments) for key, arguments in runs.items()}
            for _ in range(options.rounds)
        ]

    def median(label: str, hidden: int, value: str, beside: str = "") -> float:
        """The median over the rounds of a value, or of its ratio to the value of label `beside`."""
        size = 0 if beside == "import numpy" else hidden
        return statistics.median(
            r[label, hidden][value] / (r[beside, size][value] if beside else 1) for r in rounds
        )

    rows = []
    print("                  ready in        resident      microseconds per step (99th percentile)")
    print("                     ms  ratio      MB  ratio " + "".join(f"{h:18}" for h in HIDDEN))
    for label in ["import numpy", "bare NumPy", *(f"l0gate, {engine}" for engine in engines)]:
        hidden = 0 if label == "import numpy" else HIDDEN[0]
        row = {
            "what": label,
            "ready_ms": median(label, hidden, "ready_ms"),
            "ready_ratio": median(label, hidden, "ready_ms", "import numpy"),
            "resident_mb": median(label, hidden, "ready_kb") / 1e3,
            "resident_ratio": median(label, hidden, "ready_kb", "import numpy"),
        }
        text = (
            f"{label:16} {row['ready_ms']:6.0f} {row['ready_ratio']:6.2f}"
            f" {row['resident_mb']:7.1f} {row['resident_ratio']:6.2f}   "
        )
        if hidden:
            row["step_us"] = {h: median(label, h, "step_us") for h in HIDDEN}
            row["step_99_us"] = {h: median(label, h, "step_99_us") for h in HIDDEN}
            row["step_ratio"] = {h: median(label, h, "step_us", "bare NumPy") for h in HIDDEN}
            text += "".join(
                f"{row['step_us'][h]:9.1f} ({row['step_99_us'][h]:5.1f})" for h in HIDDEN
            )
        rows.append(row)
        print(text.rstrip())
    start = {value: median("import numpy", 0, value) for value in ("start_ms", "start_kb")}
    print(
        f"Before that, Python itself: {start['start_ms']:.0f} ms, {start['start_kb'] / 1e3:.1f} MB"
    )
    machine = _timing.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json:
        report = {**machine, "rounds": options.rounds, **start, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
