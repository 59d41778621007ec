"""Claim: an exported C header runs a sequence as fast as l0gate's own compiled kernels.

One recurrent layer with one input and a linear layer with one output, as in an amplifier model, at
batch 1 on one thread: sequences of 500 steps per call. The header is that of `l0gate.export(net,
"net.h")`, compiled here with -O3 -march=native -ffast-math by every C compiler that is found: what
CC names, or else gcc and clang (or the clang in the package `ziglang`). It is compared with
`net(x)`, `engine="numba"`, and has to give the same outputs. Headers with int8 weights are timed
too. The second table has the bytes of the object files, which hold code and weights; "small" is
compiled with -Os.

From 16 to 128 neurons, the header of the fastest compiler takes at most as long as l0gate's own
compiled sequence.

    python benchmarks/c_header.py [--quick] [--seconds 1] [--json FILE] [--plot FILE]

Takes about two minutes, and needs a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results
from _tables import Limit, Table

SIZES = (8, 16, 20, 32, 40, 64, 96, 128)
QUICK = (16, 64)
CHUNK = 500
FLAGS = ("-std=c99", "-O3", "-march=native", "-ffast-math", "-fPIC")
SMALL = ("-std=c99", "-Os")
KEYS = ("cell", "hidden")
# Functions of a header are static: this file gives them to ctypes.
SOURCE = """#include "net.h"
static net_state state;
void run(const float *x, float *y, int count)
{
    net_reset(&state);
    net_process(&state, x, y, count);
}
"""


def compilers() -> dict[str, list[str]]:
    """The commands of the C compilers that are here, by name."""
    if os.environ.get("CC"):
        return {"CC": shlex.split(os.environ["CC"])}
    found = {name: [name] for name in ("gcc", "clang") if shutil.which(name)}
    if "clang" not in found and find_spec("ziglang") is not None:
        found["clang"] = [sys.executable, "-m", "ziglang", "cc"]
    return found


def compiled(header: bytes, compiler: Sequence[str], flags: Sequence[str], folder: Path) -> Path:
    """The object file of a header and of the function `run`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.h").write_bytes(header)
    (folder / "main.c").write_text(SOURCE)
    target = folder / "net.o"
    subprocess.run([*compiler, *flags, "-c", folder / "main.c", "-o", target], check=True)
    return target


def loaded(objects: Path, compiler: Sequence[str]) -> ctypes.CDLL:
    """An object file as a library.

    It is linked in a step of its own, without -ffast-math. With that flag, linkers add code that
    makes the whole process round subnormal numbers to 0 once the library is loaded.
    """
    target = objects.with_suffix(".so")
    subprocess.run([*compiler, "-shared", objects, "-o", target, "-lm"], check=True)
    return ctypes.CDLL(str(target))


def runner(library: ctypes.CDLL, x: Any) -> Callable[[], Any]:
    """A function that runs x (T, 1, 1) from a state of zeros, and returns y (T,)."""
    import numpy as np

    y = np.zeros(len(x), np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y)]
    count = ctypes.c_int(len(x))

    def call() -> Any:
        library.run(*pointers, count)
        return y

    return call


def amplifier(cell: str, hidden: int) -> Any:
    """A layer of one input and a linear layer of one output, with fixed random weights."""
    import numpy as np

    from l0gate.reference import Net

    net = Net([{"type": cell, "name": "rec"}, {"type": "linear", "name": "lin"}])
    sizes = {"rec": hidden, "lin": 1}
    parameters = net.init(np.random.default_rng(0), input_size=1, sizes=sizes)
    return net.bind(parameters, engine="numba")


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    import numpy as np

    import l0gate

    found = compilers()
    if threads != 1 or not found:
        raise SystemExit("this needs a C compiler (gcc, clang, or what CC names) and --threads 1")
    x = np.random.default_rng(1).standard_normal((CHUNK, 1, 1)).astype(np.float32)
    for cell in ("lstm", "gru"):
        for hidden in QUICK if options.quick else SIZES:
            if results.has(cell=cell, hidden=hidden):
                continue
            net = amplifier(cell, hidden)
            calls: dict[str, Callable[[], Any]] = {"l0gate": lambda net=net: net(x)[0]}
            sizes: dict[str, int] = {}
            with tempfile.TemporaryDirectory() as folder:
                for kind, int8 in (("", False), (" int8", True)):
                    file = Path(folder) / "net.h"
                    l0gate.export(net, file, int8=int8, selftest=False)
                    header = file.read_bytes()
                    for name, command in found.items():
                        place = Path(folder, f"{name}{kind}")
                        objects = compiled(header, command, FLAGS, place)
                        calls[name + kind] = runner(loaded(objects, command), x)
                        sizes[name + kind] = objects.stat().st_size
                        small = compiled(header, command, SMALL, place)
                        sizes[f"{name}{kind} small"] = small.stat().st_size
                agree(calls)
                times = _timing.in_turns(calls, seconds=options.seconds)
            times["fastest"] = [min(turn) for turn in zip(*(times[n] for n in found), strict=True)]
            per_step = {name: [t / CHUNK for t in values] for name, values in times.items()}
            row = {"cell": cell, "hidden": hidden, **_timing.summary(per_step, "l0gate")}
            results.add({**row, "bytes": sizes})
            ns = ", ".join(f"{name} {1000 * value:.0f}" for name, value in row["us"].items())
            print(f"{cell:4} {hidden:3}: ns a step: {ns}", flush=True)


def agree(calls: dict[str, Callable[[], Any]]) -> None:
    """Check that all headers give l0gate's outputs: to 1e-5, or in int8 to a hundredth."""
    import numpy as np

    expected = np.asarray(calls["l0gate"]()).ravel()
    for name, call in calls.items():
        worst = float(np.abs(np.asarray(call()).ravel() - expected).max())
        if not worst <= (1e-2 if name.endswith("int8") else 1e-5):
            raise AssertionError(f"{name} differs by {worst}")


def tables(report: Report) -> list[Table]:
    rows = report["rows"]
    names = [name for name in (rows[0]["us"] if rows else ()) if name != "fastest"]
    sizes = list(rows[0]["bytes"]) if rows else []
    return [
        Table(
            "A step, in nanoseconds, and how many times faster the fastest header is than l0gate",
            ("cell", "hidden", *names, "faster"),
            [
                [r["cell"], r["hidden"], *(1000 * r["us"][n] for n in names), faster(r)]
                for r in rows
            ],
        ),
        Table(
            "The object file, in bytes",
            ("cell", "hidden", *sizes),
            [[r["cell"], r["hidden"], *(r["bytes"][n] for n in sizes)] for r in rows],
        ),
    ]


def faster(row: dict[str, Any]) -> float:
    """How many times faster the fastest header without int8 is than l0gate's own kernels."""
    return float(1 / row["faster"]["fastest"])


def limits(report: Report) -> list[Limit]:
    ratios = [faster(row) for row in report["rows"] if 16 <= row["hidden"] <= 128]
    least = min(ratios, default=float("nan"))
    return [Limit("C header, 16 to 128 neurons, beside l0gate's sequence", least, 1.0)]


def plot(path: Path, report: Report) -> None:
    """Nanoseconds a step over hidden size."""
    made, axes = _plots.figure(2, width=4.2)
    for axis, cell in zip(axes, ("lstm", "gru"), strict=True):
        rows = [row for row in report["rows"] if row["cell"] == cell]
        for name in [name for name in (rows[0]["us"] if rows else ()) if name != "fastest"]:
            ns = [1000 * row["us"][name] for row in rows]
            style = "k--" if name == "l0gate" else "o-"
            axis.plot([row["hidden"] for row in rows], ns, style, label=name)
        _plots.log_axes(axis, x=SIZES, y=(30, 100, 300, 1000, 3000, 10000))
        axis.set(title=cell.upper(), xlabel="hidden size")
    axes[0].set(ylabel="nanoseconds a step")
    axes[0].legend(frameon=False)
    _plots.save(made, path)


def main() -> None:
    _scripts.run(sys.modules[__name__], _scripts.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
