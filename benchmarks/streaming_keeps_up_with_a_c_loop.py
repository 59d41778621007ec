"""Claim: from Python, one step at a time, l0gate is about as fast as a plain C loop.

One layer runs at batch 1 on one thread, with one call per time step. A `Stream`, which keeps the
state, is compared with ONNX Runtime's `run`, with `torch.nn.LSTM`/`GRU`, and with the loop in
`recurrent_loop.c`, compiled here with -O3 -march=native -ffast-math. C's steps are repeated inside
C, so that its time contains no calls from Python. Three more are listed: l0gate's `step`, which
takes the state and returns the new one ("handed on"); ONNX Runtime with buffers that are bound
beforehand, so that a step only copies its input ("bound"); and torch's single cells. Sequences of
200 steps per call (chunks) are measured too.

With up to 64 neurons, a step is at least 4 times as fast as in ONNX Runtime and 20 times as fast as
in torch, and a chunk takes at most 1.3 times as long as in C. With 128 neurons or more, a step is
at least as fast as the faster of ONNX Runtime and C, and a chunk as fast as in C.

    python benchmarks/streaming_keeps_up_with_a_c_loop.py [--quick] [--seconds 1] [--json FILE]
        [--plot FILE]

Takes about a minute. It needs a C compiler: `cc`, or what CC names.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results, Row
from _tables import Limit, Table

SIZES = ((8, 8), (20, 20), (64, 64), (128, 128), (300, 260), (512, 512))  # input, hidden
QUICK = SIZES[1:4:2]
CHUNK = 200
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
KEYS = ("cell", "input", "hidden", "steps", "threads")
SIDES = {"c": "C loop", "l0gate": "l0gate", "onnxruntime": "ONNX Runtime", "torch": "torch"}


def compiled(folder: str) -> ctypes.CDLL:
    """Compile `recurrent_loop.c` for this processor and load it.

    It is linked in a second step, without -ffast-math. With that flag, linkers add code that makes
    the whole process round subnormal numbers to 0 once the library is loaded.
    """
    source = Path(__file__).with_name("recurrent_loop.c")
    objects, library = Path(folder) / "recurrent_loop.o", Path(folder) / "recurrent_loop.so"
    compiler = os.environ.get("CC", "cc")
    for command in (
        [*FLAGS, "-c", source, "-o", objects],
        ["-shared", objects, "-o", library, "-lm"],
    ):
        subprocess.run([compiler, *map(str, command)], check=True)
    return ctypes.CDLL(str(library))


class CLoop:
    """A net in C; `run` makes a function that runs the steps of x (T, I) in C."""

    def __init__(self, library: ctypes.CDLL, spec: Any, parameters: dict[str, Any]) -> None:
        import numpy as np

        (self.hidden,) = spec.hidden
        w, u, b, c = (parameters[name] for name in spec.names(0))
        new = slice(2 * self.hidden, None)
        if spec.cell == "lstm":
            self.weights = [w, u, b + c]
        else:  # with reset_after, the n block of the recurrent bias is separate
            bias, recurrent = b + c, c[new].copy()
            bias[new] = b[new]
            self.weights = [w, u, bias, recurrent]
        self.function = getattr(library, spec.cell)
        self.states = [np.zeros(self.hidden, np.float32) for _ in range(1 + (spec.cell == "lstm"))]
        self.scratch = np.zeros(4 * self.hidden, np.float32)

    def run(self, steps: int, x: Any, y: Any) -> Callable[[], Any]:
        """A function that runs `steps` steps from the state of its last call.

        x and y are (steps, ...), or (1, ...) to use the same x and y in all steps.
        """
        stride = int(len(x) > 1)
        arrays = [*self.weights, x, *self.states, self.scratch, y]
        self.held = getattr(self, "held", []) + arrays  # C holds no references
        sizes = (steps, stride, x.shape[-1], self.hidden)
        arguments = [ctypes.c_int(size) for size in sizes]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]

        def call() -> Any:
            self.function(*arguments, *pointers)
            return y

        return call

    def reset(self) -> None:
        for state in self.states:
            state.fill(0)


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    from _nets import Spec
    from _runtimes import L0gate, Torch, inference, runtimes

    if threads != 1:
        raise SystemExit("a stream of single steps is measured on one thread: --threads 1")
    sizes = QUICK if options.quick else SIZES
    with tempfile.TemporaryDirectory() as folder, inference():
        library = compiled(folder)
        for cell in ("lstm", "gru"):
            for inputs, hidden in sizes:
                spec = Spec(cell, inputs, (hidden,))
                sides = runtimes(spec, threads)
                parameters = spec.parameters()
                more = {
                    "torch_cell": Torch(spec, parameters, cells=True),
                    "handed_on": L0gate(spec, parameters, handed_on=True),
                }
                loop = CLoop(library, spec, parameters)
                for steps, calls in (
                    (1, lambda: _single(spec, sides | more, loop, options)),  # noqa: B023
                    (CHUNK, lambda: _chunks(spec, sides, loop, options)),  # noqa: B023
                ):
                    key = {"cell": cell, "input": inputs, "hidden": hidden, "steps": steps}
                    if results.has(**key, threads=threads):
                        continue
                    row = key | {"threads": threads} | calls()
                    results.add(row)
                    figures = ", ".join(f"{name} {value:.2f}" for name, value in row["us"].items())
                    print(
                        f"{cell:4} {inputs:3} -> {hidden:3} x {steps:3}: us {figures}", flush=True
                    )


def _single(spec: Any, sides: dict[str, Any], loop: CLoop, options: Any) -> Row:
    """Time single steps; those of C are repeated inside C.

    Samples are long, as streams are. In short samples, only C would find its data in the caches.
    """
    import numpy as np
    from _runtimes import agreeing

    x = spec.x(1, 1)[0]
    y = np.zeros((1, loop.hidden), np.float32)
    calls = {name: side.stream(x[0]) for name, side in sides.items()}
    loop.reset()
    agreeing({**calls, "c": loop.run(1, x, y)}, steps=3)
    repeats = 1000 * 64 // max(64, loop.hidden)
    calls["c"] = loop.run(repeats, x, y)
    times = _timing.in_turns(calls, seconds=options.seconds, sample=0.01)
    times["c"] = [seconds / repeats for seconds in times["c"]]
    return _summary(times)


def _chunks(spec: Any, sides: dict[str, Any], loop: CLoop, options: Any) -> Row:
    """Time sequences of `CHUNK` steps. C continues from its last state, so it need not reset it."""
    import numpy as np
    from _runtimes import agreeing

    x = spec.x(CHUNK, 1)
    y = np.zeros((CHUNK, loop.hidden), np.float32)
    calls = {name: side.sequence(x) for name, side in sides.items()}
    calls["c"] = loop.run(CHUNK, x[:, 0], y)
    loop.reset()
    agreeing(calls)
    return _summary(_timing.in_turns(calls, seconds=options.seconds))


def _summary(times: dict[str, list[float]]) -> Row:
    row = _timing.summary(times, "l0gate")
    best = [min(pair) for pair in zip(times["onnxruntime"], times["c"], strict=True)]
    row["faster"]["best"] = _timing.times_faster({**times, "best": best}, "l0gate", "best")
    return row


def tables(report: Report) -> list[Table]:
    made = []
    for steps, title in (
        (1, "A step, in microseconds"),
        (CHUNK, f"{CHUNK} steps, in microseconds"),
    ):
        rows = [row for row in report["rows"] if row["steps"] == steps]
        sides = {**SIDES, "bound": "bound"}
        if steps == 1:
            sides |= {"torch_cell": "torch cell", "handed_on": "handed on"}
        columns = ("cell", "input", "hidden", *sides.values())
        columns += tuple(f"than {name}" for side, name in sides.items() if side != "l0gate")
        body = [
            [row["cell"], row["input"], row["hidden"]]
            + [row["us"][side] for side in sides]
            + [row["faster"][side] for side in sides if side != "l0gate"]
            for row in rows
        ]
        made.append(Table(f"{title}, and how many times faster l0gate is", columns, body))
    return made


def limits(report: Report) -> list[Limit]:
    def least(side: str, steps: int, small: bool) -> float:
        ratios = [
            row["faster"][side]
            for row in report["rows"]
            if row["steps"] == steps and (row["hidden"] <= 64) is small
        ]
        return min(ratios, default=float("nan"))

    return [
        Limit("step, hidden <= 64, beside ONNX Runtime", least("onnxruntime", 1, True), 4.0),
        Limit("step, hidden <= 64, beside torch", least("torch", 1, True), 20.0),
        Limit("step, hidden >= 128, beside the faster of both", least("best", 1, False), 1.0),
        Limit("chunk, hidden <= 64, beside C", least("c", CHUNK, True), 1 / 1.3),
        Limit("chunk, hidden >= 128, beside C", least("c", CHUNK, False), 1.0),
    ]


def plot(path: Path, report: Report) -> None:
    """Microseconds per step over hidden size, for single steps and in chunks."""
    made, axes = _plots.figure(4, width=3.6)
    panels = [(cell, steps) for cell in ("lstm", "gru") for steps in (1, CHUNK)]
    for axis, (cell, steps) in zip(axes, panels, strict=True):
        rows = [row for row in report["rows"] if (row["cell"], row["steps"]) == (cell, steps)]
        for side, name in SIDES.items():
            style = "k--" if side == "c" else "o-"
            us = [row["us"][side] / steps for row in rows]
            axis.plot([row["hidden"] for row in rows], us, style, label=name)
        _plots.log_axes(axis, x=[size for _, size in SIZES], y=(0.1, 0.3, 1, 3, 10, 30, 100, 300))
        title = "one step a call" if steps == 1 else f"chunks of {steps}"
        axis.set(title=f"{cell.upper()}, {title}", xlabel="hidden size")
    axes[0].set(ylabel="microseconds a step")
    axes[0].legend(frameon=False)
    _plots.save(made, path)


def main() -> None:
    _scripts.run(sys.modules[__name__], _scripts.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
