"""Random mutants of `reference/`, by cosmic-ray.

It also reaches the decorated kernels, and runs the tests anew for every mutant. The kernels, which
compile anew for every mutant, have a lab and tests of their own, beside the rest.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult
from mutation import known
from mutation.lab import DESELECT, KILLED, UNSEEN, command, environment, lay_out, tests_in

PART = "reference"
SAMPLE = 200
_TESTS = {
    "plain": ("reference/test_*.py", "reference/runtime", "**/test_property_gradients.py"),
    "kernels": ("reference/compiled", "reference/runtime"),
}
_MUTANT = "module_path, operator_name, occurrence, start_pos_row, start_pos_col"

Result = tuple[str, str, str]  # module, mutant, what became of it


def run(lab: Path, sample: int | None) -> None:
    """Draw the sample once, then run what has no result."""
    for name in _TESTS:  # one after the other: pip builds in the checkout
        if not (lab / name).exists():
            lay_out(lab / name)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _cosmic_ray(lab / name, sample or SAMPLE), _TESTS))


def _cosmic_ray(lab: Path, sample: int) -> None:
    kernels = lab.name == "kernels"
    tests = command("pytest", "-x", "-q", "-p", "no:unraisableexception", "-p", "no:cacheprovider")
    tests += [*tests_in(_TESTS[lab.name]), *DESELECT]
    config, file = lab / "cosmic-ray.toml", lab / "session.sqlite"
    config.write_text(
        '[cosmic-ray]\nmodule-path = "l0gate/reference"\ntimeout = 300.0\nexcluded-modules = []\n'
        f"test-command = {json.dumps(shlex.join(tests))}\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    settings = environment(lab, load_ahead=False)
    if kernels:  # they are run little, so that compiling them well would take longer
        settings["NUMBA_OPT"] = "0"
    if not file.exists():
        subprocess.run(command("cosmic-ray", "init", config.name, file.name), cwd=lab, check=True)
        _draw(file, sample, kernels)
    # The tests must pass without a mutant; this also compiles what is not mutated.
    subprocess.run(tests, cwd=lab, env=settings, check=True)
    execute = command("cosmic-ray", "exec", config.name, file.name)
    subprocess.run(execute, cwd=lab, env=settings, check=True)


def _draw(file: Path, sample: int, kernels: bool) -> None:
    """Leave a sample of all mutants that could be noticed; annotations are never evaluated."""
    with sqlite3.connect(file) as session:
        rows = session.execute(f"select job_id, {_MUTANT} from mutation_specs").fetchall()
        hidden = {module: _annotations(file.parent / module) for module in {row[1] for row in rows}}
        visible = [r for r in rows if not any(a <= r[4:] < b for a, b in hidden[r[1]])]
        # By lot, which for each mutant depends on itself alone: where one file changes, most of the
        # others' stay. Job ids and their order are new in every session.
        drawn = sorted(visible, key=lambda row: hashlib.sha256(repr(row[1:]).encode()).digest())
        drawn = drawn[:sample]
        left = {row[0] for row in drawn if ("compiled" in Path(row[1]).parts) == kernels}
        for table in ("mutation_specs", "work_items"):
            for row in rows:
                if row[0] not in left:
                    session.execute(f"delete from {table} where job_id = ?", row[:1])
    before, work = known.read(PART), WorkDB(str(file), WorkDB.Mode.open)
    for job, *mutant in drawn:
        own = before.get(mutant[0], {})
        outcome = own.get(_named(mutant))
        if job in left and outcome and own["digest"] == known.digest(file.parent / mutant[0]):
            work.set_result(job, WorkResult(WorkerOutcome.NORMAL, "", TestOutcome(outcome)))
    work.close()


def _annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the type annotations of a file begin and end: (line, column) pairs."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(note, ast.expr) and note.end_lineno and note.end_col_offset:
                begin = (note.lineno, note.col_offset)
                found.append((begin, (note.end_lineno, note.end_col_offset)))
    return found


def found(lab: Path) -> dict[str, dict[str, Any]]:
    """What has become known in a lab, beside what was known of files that are the same."""
    modules: dict[str, dict[str, Any]] = {}
    for module, own in known.read(PART).items():
        if own["digest"] == known.digest(known.source(module)):
            modules[module] = own
    for file, *mutant, outcome in _outcomes(lab):
        if outcome is not None:
            module = mutant[0]
            digest = known.digest(file.parent / module)
            if modules.get(module, {}).get("digest") != digest:
                modules[module] = {"digest": digest}
            modules[module][_named(mutant)] = _plain(outcome)
    return modules


def results(lab: Path) -> Iterator[Result]:
    """(module, mutant, result) of the sample in a lab."""
    for _, module, operator, occurrence, row, _, outcome in _outcomes(lab):
        result = UNSEEN if outcome is None else _noticed(_plain(outcome))
        yield module, f"line {row}: {operator.rpartition('/')[2]} {occurrence}", result


def known_results() -> Iterator[Result]:
    """The same from docs/mutation.json."""
    for module, own in known.read(PART).items():
        for mutant, outcome in own.items():
            if mutant != "digest":
                yield module, mutant, _noticed(outcome)


def _outcomes(lab: Path) -> Iterator[tuple[Any, ...]]:
    query = (
        f"select {_MUTANT}, test_outcome from mutation_specs left join work_results using (job_id)"
    )
    for file in sorted(lab.glob("*/session.sqlite")):
        with sqlite3.connect(file) as session:
            for row in session.execute(query):
                yield file, *row


def _plain(outcome: Any) -> str:
    return str(outcome).rpartition(".")[2].lower()


def _noticed(outcome: str) -> str:
    return KILLED if outcome in ("killed", "incompetent") else outcome


def _named(mutant: Sequence[Any]) -> str:
    _, operator, occurrence, row, column = mutant
    return f"{row}:{column} {operator.rpartition('/')[2]} {occurrence}"
