"""Claim: `import l0gate` takes at most 1.3 times as long as `import numpy`. Loading a pruned net
and running its first step with plain NumPy takes at most 50 ms more.

Every program runs in a fresh interpreter on one thread, with compiled bytecode on disk as after an
installation. Some programs only import a package. The others import a runtime, load a net of two
LSTM layers and run one step: in l0gate with NumPy, in l0gate with numba (with its kernels on disk),
in ONNX Runtime (from an .onnx file), and in torch (weights from `torch.load`). Resident memory is
that of the process at the end. The programs take turns; ratios are taken within a round.

    python benchmarks/import_costs_little_more_than_numpy.py [--quick] [--rounds 15] [--json FILE]
        [--plot FILE]

Takes about three minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results
from _tables import Limit, Table

NETS = {"64: 40 + 40": (64, (40, 40)), "600: 373 + 315": (600, (373, 315))}
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
KEYS = ("what", "net", "threads")
PROGRAM = """
import time
start = time.perf_counter()
{imports}
imported = time.perf_counter()
{step}
ready = time.perf_counter()
try:
    lines = open("/proc/self/status").read().splitlines()
    resident = next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))
except OSError:
    resident = float("nan")
print(1e3 * (imported - start), 1e3 * (ready - imported), resident)
"""
L0GATE = """
x = np.ones({input}, np.float32)
y, state = l0gate.load({path!r}, engine={engine!r}).step(x)
"""
ONNX = """
x = np.ones((1, 1, {input}), np.float32)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
zeros = {{i.name: np.zeros((1, 1, i.shape[2]), np.float32) for i in session.get_inputs()[1:]}}
y, *state = session.run(None, {{"x": x, **zeros}})
"""
TORCH = """
with torch.inference_mode():
    layers = [torch.nn.LSTM(*size) for size in {sizes}]
    for layer, weights in zip(layers, torch.load({path!r}, weights_only=True)):
        layer.load_state_dict(weights)
    y, state = torch.ones(1, 1, {input}), []
    for layer in layers:
        y, own = layer(y)
        state.append(own)
"""


def programs(folder: Path, nets: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The programs, by what they run and the name of the net; writes the nets to the folder."""
    made = {
        (f"import {name}", ""): PROGRAM.format(imports=f"import {name}", step="")
        for name in ("numpy", "l0gate", "onnxruntime", "torch")
    }
    for name, sizes in nets.items():
        paths = write_net(folder, *sizes)
        common: dict[str, Any] = {"input": sizes[0]}
        pairs = list(zip((sizes[0], *sizes[1]), sizes[1], strict=False))
        steps = {
            f"l0gate, {engine}": L0GATE.format(path=paths["npz"], engine=engine, **common)
            for engine in ("numpy", "numba")
        }
        steps["onnxruntime"] = ONNX.format(path=paths["onnx"], **common)
        steps["torch"] = TORCH.format(path=paths["pt"], sizes=pairs, **common)
        for what, step in steps.items():
            imports = f"import numpy as np\nimport {what.split(',')[0]}"
            made[what, name] = PROGRAM.format(imports=imports, step=step)
    return made


def write_net(folder: Path, inputs: int, hidden: tuple[int, ...]) -> dict[str, str]:
    """One net in the file of each runtime."""
    import torch
    from _nets import Spec
    from _onnx import onnx_model

    import l0gate

    spec = Spec("lstm", inputs, hidden)
    parameters = spec.parameters()
    paths = {kind: str(folder / f"{inputs}.{kind}") for kind in ("npz", "onnx", "pt")}
    l0gate.save(paths["npz"], spec.net().bind(parameters))
    Path(paths["onnx"]).write_bytes(onnx_model(spec, parameters, with_state=True))
    layers = [
        {f"{kind}_l0": torch.from_numpy(parameters[f"rnn.{kind}_l{layer}"]) for kind in KINDS}
        for layer in range(len(hidden))
    ]  # one module per layer, because sizes differ
    torch.save(layers, paths["pt"])
    return paths


def measured(program: str, environment: dict[str, str]) -> tuple[float, float, float]:
    """Milliseconds of the imports, milliseconds to the first step, resident megabytes."""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported, ready, resident = map(float, result.stdout.split())
    return imported, ready, resident


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    nets = dict(list(NETS.items())[: 1 if options.quick else None])
    rounds = 5 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as name:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(Path(name) / "bytecode")
        runs = programs(Path(name), nets)
        if all(results.has(what=what, net=net, threads=threads) for what, net in runs):
            return
        for program in runs.values():  # writes the bytecode and the kernels
            measured(program, environment)
        figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {key: [] for key in runs}
        for number in range(rounds):
            for key in list(runs)[:: -1 if number % 2 else 1]:
                figures[key].append(measured(runs[key], environment))
    numpy = [imported for imported, _, _ in figures["import numpy", ""]]
    for (what, net), values in figures.items():
        imported, first, resident = (list(column) for column in zip(*values, strict=True))
        ratios = [own / theirs for own, theirs in zip(imported, numpy, strict=True)]
        row = {"what": what, "net": net, "threads": threads}
        row["import_ms"] = _timing.digits(statistics.median(imported))
        row["import_ratio"] = _timing.digits(statistics.median(ratios))  # beside NumPy
        row["first_step_ms"] = _timing.digits(statistics.median(first)) if net else None
        row["resident_mb"] = _timing.digits(statistics.median(resident))
        results.add(row)


def tables(report: Report) -> list[Table]:
    imports = [row for row in report["rows"] if not row["net"]]
    runs = [row for row in report["rows"] if row["net"]]
    names = ("what", "import_ms", "import_ratio", "resident_mb")
    columns = (
        "net",
        "runtime",
        "import, ms",
        "load and first step, ms",
        "both, ms",
        "resident, MB",
    )
    body = [
        [
            *(row[name] for name in ("net", "what", "import_ms", "first_step_ms")),
            row["import_ms"] + row["first_step_ms"],
            row["resident_mb"],
        ]
        for row in sorted(runs, key=lambda row: list(NETS).index(row["net"]))
    ]
    return [
        Table(
            "Importing",
            ("", "ms", "beside NumPy", "resident, MB"),
            [[row[name] for name in names] for row in imports],
        ),
        Table("A pruned net's first step (input: hidden sizes)", columns, body),
    ]


def limits(report: Report) -> list[Limit]:
    rows = {(row["what"], row["net"]): row for row in report["rows"]}

    def figure(what: str, net: str, name: str) -> float:
        return float(rows[what, net][name]) if (what, net) in rows else math.nan

    made = [
        Limit(
            "import l0gate beside import numpy",
            figure("import l0gate", "", "import_ratio"),
            at_most=1.3,
        )
    ]
    for net in NETS:
        value = figure("l0gate, numpy", net, "first_step_ms")
        made.append(Limit(f"load and first step of {net}, ms", value, at_most=50.0))
    return made


def plot(path: Path, report: Report) -> None:
    """Bars: time to the first step (import, and the rest on top of it), and resident memory."""
    net = list(NETS)[-1]
    rows = [row for row in report["rows"] if row["net"] == net] or [
        row for row in report["rows"] if row["net"]
    ]
    made, axes = _plots.figure(2)
    names = [row["what"].replace(", ", "\n") for row in rows]
    imports = [row["import_ms"] for row in rows]
    axes[0].bar(names, imports, label="import")
    axes[0].bar(names, [row["first_step_ms"] for row in rows], bottom=imports, label="first step")
    axes[0].set(title=f"to the first step of {rows[0]['net']}", ylabel="milliseconds")
    axes[0].legend(frameon=False)
    axes[1].bar(names, [row["resident_mb"] for row in rows])
    axes[1].set(title="resident memory", ylabel="MB")
    for axis in axes:
        axis.grid(visible=False, axis="x")
    _plots.save(made, path)


def main() -> None:
    parser = _scripts.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    _scripts.run(sys.modules[__name__], parser.parse_args())


if __name__ == "__main__":
    main()
