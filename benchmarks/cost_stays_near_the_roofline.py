"""Claim: with 128 neurons or more, sequences run at half or more of what the processor allows.

One layer runs on one thread, with various hidden sizes, batch sizes and lengths. The roofline is
the least time that a sequence can take: the longer of its arithmetic, at the peak rate of fused
multiply-adds, and of its memory traffic, which reads the recurrent matrix once per time step and
the input matrix once. Peak and bandwidth are measured in turns with the net, by loops compiled with
numba: multiply-adds in registers, and a sum over as many bytes as the recurrent matrix has, so that
they lie in the same cache. Activations are not counted, so no net can reach the roofline. The
bandwidth of main memory is measured by the usual loop, the triad a = b + s c, over 240 MB.

A net reaches a part of the roofline: the roofline divided by the net's time, as a median over
rounds. The claim is about its geometric mean over all nets with 128 neurons or more and sequences
of 10 steps or more.

    python benchmarks/cost_stays_near_the_roofline.py [--quick] [--seconds 1] [--json FILE]
        [--plot FILE]

Takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results
from _tables import Limit, Table
from _timing import mean

# name of a sweep: the points (input, hidden, batch, length); its first word is what changes
SWEEPS: dict[str, list[tuple[int, int, int, int]]] = {
    "hidden": [(h, h, 1, 100) for h in (8, 16, 32, 64, 128, 256, 512, 1024, 1500)],
    "hidden in batches": [(h, h, 16, 50) for h in (8, 16, 32, 64, 128, 256, 512, 1024)],
    "batch": [(256, 256, b, 50) for b in (1, 2, 3, 4, 6, 8, 10, 16, 24, 32, 48, 64)],
    "length": [(64, 64, 1, t) for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)],
}
POINT = ("input", "hidden", "batch", "length")
CELLS = ("lstm", "gru")
KEYS = ("sweep", "cell", "input", "hidden", "batch", "length", "threads")
CHAINS = 8  # independent chains of multiply-adds: each takes 4 cycles, on two units


def loops() -> tuple[Any, Any, Any]:
    """Compiled loops: multiply-adds in registers, reading, and the triad."""
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    from l0gate.reference.compiled.simd.lanes import BYTES, Lanes

    @intrinsic  # type: ignore[untyped-decorator]
    def chains(typingctx: Any, times: Any) -> Any:
        """Multiply-adds on whole registers: on AVX-512, compiled loops would use half of each."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.FloatType(), BYTES // 4)
            # Different start values, because the compiler would merge equal chains.
            starts = [ir.Constant(vector, [float(n)] * vector.count) for n in range(CHAINS)]
            sums = [cgutils.alloca_once_value(builder, start) for start in starts]
            with cgutils.for_range(builder, arguments[0]):
                for place in sums:
                    term = Lanes(builder, builder.load(place)) * 0.5 + 0.5
                    builder.store(term.value, place)
            total = Lanes(builder, builder.load(sums[0]))
            for place in sums[1:]:
                total = total + Lanes(builder, builder.load(place))
            return builder.extract_element(total.value, ir.Constant(ir.IntType(32), 0))

        return types.float32(times), generate

    @njit  # type: ignore[untyped-decorator]
    def multiply_adds(times: int) -> Any:
        return chains(times)

    @njit(fastmath=True)  # type: ignore[untyped-decorator]
    def read(times: int, x: Any, scale: Any) -> None:
        quarter = x.size // 4
        for _ in range(times):
            a, b, c, d = x[0], x[0], x[0], x[0]
            for k in range(quarter):
                a += x[k]
                b += x[k + quarter]
                c += x[k + 2 * quarter]
                d += x[k + 3 * quarter]
            x[0] = (a + b + c + d) * scale  # so that no pass is optimised away

    @njit(fastmath=True)  # type: ignore[untyped-decorator]
    def triad(a: Any, b: Any, c: Any, s: Any) -> None:
        for k in range(a.size):
            a[k] = b[k] + s * c[k]

    return multiply_adds, read, triad


class Machine:
    """Functions that measure the peak of arithmetic and of reading on this processor."""

    TIMES = 20_000

    def __init__(self) -> None:
        import numpy as np

        self.multiply_adds, self.read, triad = loops()
        from l0gate.reference.compiled.simd.lanes import lanes_of

        self.flops = 2 * CHAINS * lanes_of(np.dtype(np.float32)) * self.TIMES
        self.peak: Callable[[], Any] = lambda: self.multiply_adds(self.TIMES)
        half = np.float32(0.5)
        a, b, c = (np.ones(20_000_000, np.float32) for _ in range(3))
        times = _timing.in_turns({"triad": lambda: triad(a, b, c, half)}, seconds=0.5)["triad"]
        self.triad = 3 * a.nbytes / statistics.median(times)  # bytes per second

    def peak_flops(self, seconds: float) -> float:
        return self.flops / seconds

    def reading(self, size: int) -> tuple[Callable[[], Any], int]:
        """A function that reads `size` bytes many times, and the total number of bytes."""
        import numpy as np

        x = np.ones(max(size // 4, 64), np.float32)
        times = max(1, 2_000_000 // x.size)
        scale = np.float32(1 / x.size)  # keeps the sum finite
        return (lambda: self.read(times, x, scale)), times * x.nbytes


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    from _nets import Spec
    from _runtimes import L0gate

    from l0gate.layout.stacked import BLOCKS

    if threads != 1:
        raise SystemExit("peak and bandwidth are measured on one thread: --threads 1")
    machine = Machine()
    for sweep, points in SWEEPS.items():
        for cell in CELLS:
            for inputs, hidden, batch, length in points[:: 4 if options.quick else 1]:
                key = {"sweep": sweep, "cell": cell, "input": inputs, "hidden": hidden}
                key |= {"batch": batch, "length": length, "threads": threads}
                if results.has(**key):
                    continue
                spec = Spec(cell, inputs, (hidden,))
                recurrent = 4 * BLOCKS[cell] * hidden * hidden
                read, bytes_read = machine.reading(recurrent)
                call = L0gate(spec, spec.parameters()).sequence(spec.x(length, batch))
                times = _timing.in_turns(
                    {"net": call, "peak": machine.peak, "read": read}, seconds=options.seconds
                )
                flops = 2 * spec.multiply_adds * batch * length
                traffic = length * recurrent + 4 * BLOCKS[cell] * hidden * inputs
                bounds = [
                    (flops / machine.peak_flops(peak), traffic * reading / bytes_read)
                    for peak, reading in zip(times["peak"], times["read"], strict=True)
                ]
                row = key | figures(times, bounds, flops)
                row["peak_gflops"] = _timing.digits(
                    machine.peak_flops(statistics.median(times["peak"])) / 1e9
                )
                row["read_gb"] = _timing.digits(bytes_read / statistics.median(times["read"]) / 1e9)
                row["triad_gb"] = _timing.digits(machine.triad / 1e9)
                results.add(row)
                print(
                    f"{cell:4} {inputs:4} -> {hidden:4}, {batch:2} x {length:4}: {row['us']:10.1f}"
                    f" us, {row['gflops']:6.1f} GFLOP/s, {row['part']:.2f} of the roofline"
                    f" ({row['bound']})",
                    flush=True,
                )


def figures(
    times: dict[str, list[float]], bounds: list[tuple[float, float]], flops: float
) -> dict[str, Any]:
    """The results of a row; `bounds` has the least seconds (arithmetic, memory) of each round."""
    net = statistics.median(times["net"])
    roof = [max(pair) for pair in bounds]
    arithmetic, memory = (statistics.median(values) for values in zip(*bounds, strict=True))
    ratios = [least / own for least, own in zip(roof, times["net"], strict=True)]
    return {
        "us": _timing.digits(1e6 * net),
        "roof_us": _timing.digits(1e6 * statistics.median(roof)),
        "gflops": _timing.digits(flops / net / 1e9),
        "part": _timing.digits(statistics.median(ratios)),
        "bound": "arithmetic" if arithmetic > memory else "memory",
    }


def tables(report: Report) -> list[Table]:
    rows = report["rows"]
    columns = ("cell", "input", "hidden", "batch", "length", "us", "roofline, us", "GFLOP/s")
    columns += ("part of the roofline", "bound by")
    names = (
        "cell",
        "input",
        "hidden",
        "batch",
        "length",
        "us",
        "roof_us",
        "gflops",
        "part",
        "bound",
    )
    made = [
        Table(
            f"Cost over {axis(sweep)} ({fixed(sweep)})",
            columns,
            [[row[name] for name in names] for row in rows if row["sweep"] == sweep],
        )
        for sweep in SWEEPS
    ]
    sizes = sorted({row["hidden"] for row in rows if row["cell"] == "lstm"})
    body: list[list[Any]] = []
    for hidden in sizes:
        same = [row for row in rows if (row["cell"], row["hidden"]) == ("lstm", hidden)]
        kilobytes = 16 * hidden * hidden // 1024
        body.append([f"reading {kilobytes:,} kB", mean(row["read_gb"] for row in same), "GB/s"])
    body.append(["triad over 240 MB", mean(row["triad_gb"] for row in rows), "GB/s"])
    body.append(["fused multiply-adds", mean(row["peak_gflops"] for row in rows), "GFLOP/s"])
    made.append(Table("What one core of the machine can do", ("", "measured", "unit"), body))
    return made


def limits(report: Report) -> list[Limit]:
    parts = [r["part"] for r in report["rows"] if r["hidden"] >= 128 and r["length"] >= 10]
    return [Limit("hidden >= 128, part of the roofline", mean(parts), at_least=0.5)]


def axis(sweep: str) -> str:
    """What changes in a sweep.

    >>> axis("hidden in batches")
    'hidden'
    """
    return sweep.split()[0]


def fixed(sweep: str) -> str:
    """What stays the same in a sweep.

    >>> fixed("batch")
    'hidden 256, 50 steps'
    """
    _, hidden, batch, length = SWEEPS[sweep][0]
    texts = {"hidden": f"hidden {hidden}", "batch": f"batch {batch}", "length": f"{length} steps"}
    return ", ".join(text for name, text in texts.items() if name != axis(sweep))


def plot(path: Path, report: Report) -> None:
    """Time beside the roofline, a panel per sweep."""
    made, axes = _plots.figure(len(SWEEPS), width=4.0)
    for panel, (sweep, points) in zip(axes, SWEEPS.items(), strict=True):
        name = axis(sweep)
        for number, cell in enumerate(CELLS):
            rows = [r for r in report["rows"] if (r["sweep"], r["cell"]) == (sweep, cell)]
            at = [row[name] for row in rows]
            panel.plot(at, [r["us"] for r in rows], "o-", color=f"C{number}", label=cell.upper())
            roof = [row["roof_us"] for row in rows]
            panel.plot(at, roof, "--", color=f"C{number}", label=f"{cell.upper()}, roofline")
        ticks = [point[POINT.index(name)] for point in points]
        _plots.log_axes(panel, x=ticks[:: 1 + (len(ticks) > 8)], y=[10.0**n for n in range(-1, 7)])
        panel.set(title=fixed(sweep), xlabel=name)
    axes[0].set(ylabel="microseconds")
    axes[0].legend(frameon=False)
    _plots.save(made, path)


def main() -> None:
    _scripts.run(sys.modules[__name__], _scripts.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
