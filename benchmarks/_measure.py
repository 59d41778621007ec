"""What the benchmarks share: threads, turns, tables, limits, and results on disk.

Nothing here imports NumPy, so that a script can settle the number of threads first.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

Row = dict[str, Any]
Report = dict[str, Any]

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("l0gate", "numpy", "numba", "onnxruntime", "torch")
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")  # with _NUM_THREADS: read when each is loaded
SAMPLE = 1e-3  # seconds that a sample lasts at least
ROUNDS = (5, 25)


def machine() -> dict[str, Any]:
    """What figures are measured on.

    >>> list(machine())[:3]
    ['processor', 'isa', 'cores']
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "isa": _isa(facts.get("flags", "").split()),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: value for name, value in versions.items() if value},
    }


def _isa(flags: Sequence[str]) -> str:
    """The widest vectors, which decide what a kernel can reach."""
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
    return next((name for flag, name in known.items() if flag in flags), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 1.0,
    rounds: tuple[int, int] = ROUNDS,
    pause: float = 0.0,
    sample: float = SAMPLE,
) -> dict[str, list[float]]:
    """Seconds per call, one value a round, by name; the calls take turns.

    A sample repeats its call for `sample` seconds at least. There are as many rounds as `seconds`
    allow, within `rounds`; every other one runs backwards, so that nobody always follows the same
    neighbour. Before a sample its call runs once more, to find its data in the caches again;
    before that comes the pause, in which threads of the neighbour stop to spin for work.
    """
    counts = {name: _count(call, sample) for name, call in calls.items()}
    took = sum(count * least for count, least in counts.values())
    least_rounds, most_rounds = rounds
    total = max(least_rounds, min(most_rounds, int(seconds / (took + len(calls) * pause))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(total):
            for name in list(calls)[:: -1 if number % 2 else 1]:
                time.sleep(pause)
                count, least = counts[name]
                if least < 50 * sample:
                    calls[name]()
                times[name].append(_timed(calls[name], count) / count)
    finally:
        if collecting:
            gc.enable()
    return times


def _count(call: Callable[[], object], sample: float = SAMPLE) -> tuple[int, float]:
    """How many calls make a sample, and the seconds of one; the first calls compile and warm up."""
    call()
    call()
    count, took = 1, _timed(call, 1)
    while took < sample:
        count = max(count + 1, math.ceil(1.2 * count * sample / max(took, sample / 100)))
        took = _timed(call, count)
    return count, took / count


def _timed(call: Callable[[], object], count: int) -> float:
    turns = range(count)
    start = time.perf_counter()
    for _ in turns:
        call()
    return time.perf_counter() - start


def times_faster(times: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """The median over rounds of their time by ours.

    >>> times_faster({"a": [1.0, 1.0, 2.0], "b": [2.0, 3.0, 8.0]}, "a", "b")
    3.0
    """
    pairs = zip(times[ours], times[theirs], strict=True)
    return digits(statistics.median(b / a for a, b in pairs))


def summary(times: Mapping[str, Sequence[float]], ours: str) -> Row:
    """Median microseconds by name, and how many times faster we are than each of the others."""
    return {
        "us": {name: digits(1e6 * statistics.median(values)) for name, values in times.items()},
        "faster": {name: times_faster(times, ours, name) for name in times if name != ours},
    }


def digits(value: float) -> float:
    """Four of them, more than a measurement has.

    >>> digits(0.0123456)
    0.01235
    """
    return float(f"{value:.4g}")


def mean(values: Iterable[float]) -> float:
    """The geometric mean; NaN of nothing."""
    values = list(values)
    return statistics.geometric_mean(values) if values else math.nan


# Limits and tables --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """A figure beside what was claimed of it. NaN, which nothing was measured for, is not met."""

    what: str
    value: float
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most

    @property
    def holds(self) -> str:
        if math.isnan(self.value):
            return "not measured"
        return "yes" if self.met else "no"

    @property
    def allowed(self) -> str:
        if self.at_most < math.inf:
            return f"at most {self.at_most:.3g}"
        return f"at least {self.at_least:.3g}"


@dataclass(frozen=True)
class Table:
    """A table to be read on a terminal and on a page.

    >>> table = Table("Speed", ("net", "times"), [("small", 12.345), ("large", 1.5)])
    >>> print(table.text())
    Speed
    net    times
    small   12.3
    large   1.50
    >>> print(table.markdown())
    | net | times |
    | --- | ---: |
    | small | 12.3 |
    | large | 1.50 |
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def text(self) -> str:
        cells = [list(self.columns), *([shown(value) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = self._left()
        lines = (
            "  ".join(
                cell.ljust(width) if stays else cell.rjust(width)
                for cell, width, stays in zip(line, widths, left, strict=True)
            )
            for line in cells
        )
        return "\n".join([self.title, *(line.rstrip() for line in lines)])

    def markdown(self) -> str:
        rule = ["---" if stays else "---:" for stays in self._left()]
        lines = [self.columns, rule, *([shown(value) for value in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _left(self) -> list[bool]:
        """Columns of words stand to the left."""
        return [
            any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))
        ]


def shown(value: Any) -> str:
    """A figure with three digits, as far as they can be trusted.

    >>> [shown(value) for value in (0.123456, 1.5, 12.345, 1234.5, 7, "lstm", float("nan"))]
    ['0.123', '1.50', '12.3', '1,234', '7', 'lstm', '-']
    """
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def limits_table(limits: Sequence[Limit]) -> Table:
    """What was claimed, and whether it holds."""
    rows = [(x.what, x.value, x.allowed, x.holds) for x in limits]
    return Table("Claimed", ("figure", "measured", "claimed", "holds"), rows)


# Scripts and their results ------------------------------------------------------------------------


def parser(documentation: str | None, threads: Sequence[int] = (1,)) -> argparse.ArgumentParser:
    """The options that every script has."""
    lines = (documentation or "").strip().splitlines()
    made = argparse.ArgumentParser(description=lines[0] if lines else None)
    made.add_argument("--quick", action="store_true", help="a coarse part of the measurements")
    made.add_argument("--threads", type=int, nargs="+", default=list(threads), metavar="N")
    made.add_argument("--seconds", type=float, default=1.0, help="to spend on a row, about")
    made.add_argument("--json", type=Path, help="write results; an interrupted run is taken up")
    made.add_argument("--plot", type=Path, help="write a picture, PNG or SVG")
    made.add_argument("--measuring", action="store_true", help=argparse.SUPPRESS)  # in a child
    return made


class Script(Protocol):
    """What a script holds: `run` calls it, and `pages.py` makes its tables a page."""

    KEYS: tuple[str, ...]  # of its rows

    def measure(self, results: Results, threads: int, options: argparse.Namespace) -> None: ...

    def tables(self, report: Report) -> list[Table]: ...

    def limits(self, report: Report) -> list[Limit]: ...

    def plot(self, path: Path, report: Report) -> None: ...


class Results:
    """Rows on their way to a JSON file, which is whole after each; rows found there are kept.

    Rows are told apart by `keys`. Another machine, other versions or other kernels begin the file
    anew.
    """

    def __init__(self, path: Path | None, keys: Sequence[str], **settings: Any) -> None:
        self.path, self.keys = path, tuple(keys)
        self.report: Report = {"machine": machine(), "settings": settings, "rows": []}
        if path and path.exists():
            before = read(path)
            if all(before[part] == self.report[part] for part in ("machine", "settings")):
                self.report = before
            else:
                print(f"{path} is of another machine, version, setting or kernel: measured anew")
        self._known = {self._key(row) for row in self.rows}

    @property
    def rows(self) -> list[Row]:
        return list(self.report["rows"])

    def has(self, **key: Any) -> bool:
        return self._key(key) in self._known

    def add(self, row: Row) -> None:
        self.report["rows"].append(row)
        self._known.add(self._key(row))
        if self.path:
            write(self.path, self.report)

    def _key(self, row: Mapping[str, Any]) -> str:
        return json.dumps([row[name] for name in self.keys])


def _kernels() -> str:
    """A digest of the code that is measured."""
    import l0gate.reference

    files = sorted(Path(next(iter(l0gate.reference.__path__))).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def read(path: Path) -> Report:
    report: Report = json.loads(path.read_text())
    return report


def write(path: Path, report: Report) -> None:
    """One line a row, so that versions can be compared; the file is never half written."""
    head = {name: value for name, value in report.items() if name != "rows"}
    lines = ",\n".join(f"    {json.dumps(row)}" for row in report["rows"])
    text = json.dumps(head, indent=2).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(f'{text},\n  "rows": [\n{lines}\n  ]\n}}\n')
    beside.replace(path)


def run(script: Script, options: argparse.Namespace) -> None:
    """Measure in a process of its own for each number of threads, then print, draw and keep.

    Libraries settle how many threads they use when they are loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "rows.json"
        if options.measuring:
            (threads,) = options.threads
            settings = {"seconds": options.seconds, "kernels": _kernels()}
            script.measure(Results(path, script.KEYS, **settings), threads, options)
            return
        for threads in options.threads:
            names = [f"{library}_NUM_THREADS" for library in THREADS]
            command = [sys.executable, *sys.argv, "--measuring"]
            subprocess.run(
                [*command, "--threads", str(threads), "--json", path],
                env={**os.environ, **dict.fromkeys(names, str(threads))},
                check=True,
            )
        report = read(path)
    for table in [*script.tables(report), limits_table(script.limits(report))]:
        print(f"\n{table.text()}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    if options.plot:
        script.plot(options.plot, report)


def figure(columns: int, width: float = 5.0) -> tuple[Any, Any]:
    """A matplotlib figure with so many axes in a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(
        1, columns, figsize=(width * columns, 4.2), squeeze=False, layout="constrained"
    )
    for one in axes[0]:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return made, axes[0]


def log_axes(axis: Any, x: Sequence[float] = (), y: Sequence[float] = ()) -> None:
    """Logarithmic axes whose ticks are plain numbers: these, as far as they are in sight."""
    for name, ticks in (("x", x), ("y", y)):
        if ticks:
            getattr(axis, f"set_{name}scale")("log")
            low, high = getattr(axis, f"get_{name}lim")()
            seen = [tick for tick in ticks if low <= tick <= high]
            getattr(axis, f"set_{name}ticks")(seen, [f"{tick:,g}" for tick in seen])
            getattr(axis, f"{name}axis").minorticks_off()
            getattr(axis, f"set_{name}lim")(low, high)


def save(made: Any, path: Path) -> None:
    from matplotlib import pyplot

    made.savefig(path, dpi=110)
    pyplot.close(made)
