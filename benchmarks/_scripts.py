"""What all scripts here share: options, measuring in child processes, and results on disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from _tables import Limit, Table, limits_table
from _timing import machine

Row = dict[str, Any]
Report = dict[str, Any]

RESULTS = Path(__file__).resolve().parent / "results"
# Environment variables, without the ending _NUM_THREADS. A library reads its own when it is loaded.
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")


def parser(documentation: str | None, threads: Sequence[int] = (1,)) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    lines = (documentation or "").strip().splitlines()
    made = argparse.ArgumentParser(description=lines[0] if lines else None)
    made.add_argument("--quick", action="store_true", help="measure only a few of the nets")
    made.add_argument("--threads", type=int, nargs="+", default=list(threads), metavar="N")
    made.add_argument(
        "--seconds", type=float, default=1.0, help="approximate time to measure a row"
    )
    made.add_argument("--json", type=Path, help="results file; resumes an interrupted run")
    made.add_argument("--plot", type=Path, help="write a plot to this file, PNG or SVG")
    made.add_argument("--measuring", action="store_true", help=argparse.SUPPRESS)  # in a child
    return made


class Script(Protocol):
    """What a script must define for `run`, and for `pages.py`."""

    KEYS: tuple[str, ...]  # the fields that identify a row of results

    def measure(self, results: Results, threads: int, options: argparse.Namespace) -> None: ...

    def tables(self, report: Report) -> list[Table]: ...

    def limits(self, report: Report) -> list[Limit]: ...

    def plot(self, path: Path, report: Report) -> None: ...


class Results:
    """Rows of results in a JSON file, which is written after every row.

    If the file exists, its rows are kept and not measured again; `keys` are the fields that
    identify a row. But if the machine, the versions, the settings or the kernels have changed, all
    rows are measured again.
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


def kernels_digest() -> str:
    """A digest of the source files of `l0gate.reference`."""
    import l0gate.reference

    files = sorted(Path(next(iter(l0gate.reference.__path__))).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def read(path: Path) -> Report:
    report: Report = json.loads(path.read_text())
    return report


def write(path: Path, report: Report) -> None:
    """Write one row per line, for readable diffs; the file is replaced as a whole."""
    from l0gate.files import write_atomically

    head = {name: value for name, value in report.items() if name != "rows"}
    lines = ",\n".join(f"    {json.dumps(row)}" for row in report["rows"])
    text = json.dumps(head, indent=2).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f'{text},\n  "rows": [\n{lines}\n  ]\n}}\n'.encode())


def run(script: Script, options: argparse.Namespace) -> None:
    """Measure with each number of threads, then print tables and draw the plot.

    Every number of threads has a child process, because libraries read it when they are loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "rows.json"
        if options.measuring:
            (threads,) = options.threads
            settings = {"seconds": options.seconds, "kernels": kernels_digest()}
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
