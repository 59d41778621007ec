"""Does the suite notice faults? Mutation testing of `l0gate/` and `reference/`.

    python tests/mutate.py l0gate        every mutant of the algorithm, by mutmut
    python tests/mutate.py reference     200 random mutants of the reference, by cosmic-ray

Both go on where they stopped, in another checkout too: what is known stands in docs/mutation.json,
for functions and files as they were. `--again` starts over, `--show` only prints what is known.
The package is laid out as it is installed, in `build/mutation`, and mutated there, never in the
checkout. mutmut is fast, and leaves decorated functions alone; the kernels of `reference/` are
decorated, so cosmic-ray, which runs the tests anew for every mutant, takes that part. mutmut has
mypy refuse what it can, then runs the quick tests, and all tests, as they are now, on what survived
those before: a new test costs a run of the survivors, a changed function one of its mutants.
Survivors are explained in docs/mutation.md.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "build" / "mutation"
KNOWN = ROOT / "docs" / "mutation.json"
SAMPLE = 200
MUTANT = "module_path, operator_name, occurrence, start_pos_row, start_pos_col"
WANTED = 0.9
OTHERS_LAB = "others"
KILLED, TYPED, SURVIVED, UNSEEN = "killed", "refused by mypy", "survived", "not run"
QUICK = "hard_concrete notation layout cost budget tensor plugins pruner pruner_certify chain"
QUICK += " certificate archive archive_bytes report pictures cli_parts cli_options cli_app"
QUICK += " cli_report cli_job methods"
OTHERS = "cli property_archive property_gradients property_shrinking property_stateful testing"
OTHERS += " testing_module testing_parts testing_torch torch_backend methods_torch"
# They start other processes, which takes long, and hold nothing that quicker tests do not.
DESELECTED = [
    "tests/test_reference_stream.py::test_kernels_that_were_compiled_in_different_processes",
    "tests/test_plugins.py::test_a_real_entry_point_is_found",
    "tests/test_plugins.py::test_a_framework_that_asks_for_a_backend_while_it_loads",
    # mutmut stands between the caller and the function that looks for it.
    "tests/test_plugins.py::test_a_warning_points_at_the_line_that_called_l0gate",
]
DESELECT = [f"--deselect={test}" for test in DESELECTED]
REFERENCE = {
    "plain": "reference_cells reference_objective reference_streaming reference_stream"
    " reference_net reference_torch property_gradients",
    "kernels": "program jit reference_streaming reference_stream",
}
KERNELS = "_compiling _lanes _layer_kernels _net_kernels _packing _program _scan_parts _lstm_scan"
KERNELS += " _gru_scan _threads"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("l0gate", "reference"))
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--show", action="store_true", help="run nothing")
    given = parser.parse_args()
    lab = LAB / given.part
    run, results = (mutmut, mutmut_results) if given.part == "l0gate" else (cosmic, cosmic_results)
    if given.again:
        shutil.rmtree(lab, ignore_errors=True)
        write_known(given.part, {})
    if not given.show:
        try:
            run(lab)
        finally:
            found = mutmut_known(lab) if run is mutmut else cosmic_known(lab)
            # A run that failed before it took up what was known must not forget it.
            write_known(given.part, read_known().get(given.part, {}) | found)
    return report(list(results(lab)))


def read_known() -> dict[str, Any]:
    """What docs/mutation.json says, by part."""
    return json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}


def write_known(part: str, found: Any) -> None:
    lines = json.dumps(read_known() | {part: found}, indent=0, sort_keys=True, ensure_ascii=False)
    temporary = KNOWN.with_suffix(".new")
    temporary.write_text(lines + "\n", encoding="utf-8")
    temporary.replace(KNOWN)


def lay_out(lab: Path) -> None:
    """The package as it is installed, beside the tests, both as they are now."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(lab), str(ROOT)], check=True)
    shutil.rmtree(lab / "tests", ignore_errors=True)
    shutil.copytree(ROOT / "tests", lab / "tests")
    shutil.copy(ROOT / "pyproject.toml", lab)


def command(*words: str) -> list[str]:
    """A program of this environment."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def environment(lab: Path) -> dict[str, str]:
    """The same examples for every mutant, nothing shrunk after a failure, one thread."""
    data = os.environ.get("L0GATE_DATA", str(ROOT.parent / "shared" / "data"))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HYPOTHESIS_PROFILE": "mutation",
        "L0GATE_DATA": data,
        "NUMBA_CACHE_DIR": str(lab / "numba"),
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # loading plugins takes longer than most tests
        "PYTHONPATH": str(lab),
        "L0GATE_TESTS_LOAD_AHEAD": "" if "reference" in lab.parts else "1",
        "PYTHONDONTWRITEBYTECODE": "",  # what is imported anew for every mutant is compiled once
    }


def files(names: str) -> list[str]:
    """Test files by the part of their names that tells them apart."""
    return [f"tests/test_{name}.py" for name in names.split()]


def mutmut(lab: Path) -> None:
    """Run every mutant that has no result on the quick tests, the survivors on all tests."""
    _mutmut(lab, QUICK)
    survivors = [
        f"{module.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}.{name}"
        for module, name, result in mutmut_results(lab)
        if result == SURVIVED
    ]
    if survivors:
        others = lab / OTHERS_LAB
        # Which tests meet which function is found anew: tests may have changed.
        (others / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
        _mutmut(others, f"{QUICK} {OTHERS}", survivors)


def _mutmut(lab: Path, names: str, mutants: Sequence[str] = ()) -> None:
    lay_out(lab)
    if not mutants:
        for round_, where in enumerate((lab, lab / OTHERS_LAB)):
            mutmut_restore(lab, round_, where)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if mutants:  # mypy has let them pass
        settings = re.sub("type_check_command = .*", "", settings)
    chosen = [*files(names), *DESELECT]
    settings += f"pytest_add_cli_args_test_selection = {chosen}\n"
    (lab / "pyproject.toml").write_text(settings, encoding="utf-8")
    run = command("mutmut", "run", *mutants)
    subprocess.run(run, cwd=lab, env=environment(lab), check=True)


def mutmut_known(lab: Path) -> dict[str, dict[str, str]]:
    """By module and function: its digest, and the exit codes of its mutants in both rounds.

    They stand in one string, "digest: codes of the first; codes of the second"; -, not run.
    """
    known: dict[str, dict[str, str]] = {}
    for module, first, second in _rounds(lab):
        functions: dict[str, list[list[int | None]]] = {}
        for name, code in first["exit_code_by_key"].items():
            codes = functions.setdefault(_function(name), [[], []])
            codes[0].append(code)
            codes[1].append(second.get(name))
        digests = first["hash_by_function_name"]
        known[module] = {
            name: f"{digests.get(name, '')}: " + "; ".join(map(_in_words, both))
            for name, both in functions.items()
            if any(code is not None for codes in both for code in codes)
        }
    return known


def _rounds(lab: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, int | None]]]:
    """(module, what the first round wrote, the second's codes for functions that are the same)."""
    for path in sorted(lab.glob("mutants/l0gate/**/*.meta")):
        module = str(path.relative_to(lab / "mutants")).removesuffix(".meta")
        first, later = json.loads(path.read_text(encoding="utf-8")), lab / OTHERS_LAB
        later /= path.relative_to(lab)
        second = json.loads(later.read_text(encoding="utf-8")) if later.exists() else {}
        now, then = (found.get("hash_by_function_name", {}) for found in (first, second))
        codes = second.get("exit_code_by_key", {}).items()
        same = {k: v for k, v in codes if now.get(_function(k)) == then.get(_function(k))}
        yield module, first, same


def _in_words(codes: Sequence[int | None]) -> str:
    return " ".join("-" if code is None else str(code) for code in codes)


def _function(mutant: str) -> str:
    """Of a mutant's name: module.function__mutmut_number."""
    return mutant.rpartition(".")[2].rpartition("__mutmut_")[0]


def mutmut_restore(lab: Path, round_: int, where: Path) -> None:
    """Write what is known where mutmut looks for it; it forgets functions that have changed."""
    for module, functions in read_known().get("l0gate", {}).items():
        path = where / "mutants" / f"{module}.meta"
        if path.exists() or not (lab / module).exists():
            continue
        package = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        codes, digests = {}, {}
        for name, known in functions.items():
            digests[name], _, rounds = known.partition(": ")
            for number, code in enumerate(rounds.split("; ")[round_].split(), 1):
                key = f"{package}.{name}__mutmut_{number}"
                codes[key] = None if code == "-" else int(code)
        meta: dict[str, Any] = {"exit_code_by_key": codes, "hash_by_function_name": digests}
        others = "type_check_error_by_key", "durations_by_key", "estimated_durations_by_key"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(meta | {key: {} for key in others}), encoding="utf-8")


def mutmut_results(lab: Path) -> Iterator[tuple[str, str, str]]:
    """(module, mutant, result) of every mutant."""
    for module, first, others in _rounds(lab):
        for name, code in first["exit_code_by_key"].items():
            # 0: all tests passed. 5 and 33: no test calls the function. 37: the types are wrong.
            known = {None: UNSEEN, 0: SURVIVED, 5: SURVIVED, 33: SURVIVED, 37: TYPED}
            result = known.get(code, KILLED)
            if result == SURVIVED and others.get(name) is not None:
                result = known.get(others[name], KILLED)
            yield module, name.rpartition(".")[2], result


def cosmic(lab: Path) -> None:
    """Draw the sample once, then run what has no result: kernels, which compile anew for every
    mutant, beside the rest."""
    for name in REFERENCE:  # one after the other: pip builds in the checkout
        if not (lab / name).exists():
            lay_out(lab / name)
    with ThreadPoolExecutor() as pool:
        list(pool.map(_cosmic, [lab / name for name in REFERENCE]))


def cosmic_known(lab: Path) -> dict[str, dict[str, Any]]:
    """By file: its digest, and what became of its mutants in the sample."""
    known: dict[str, dict[str, Any]] = {}
    for file in sorted(lab.glob("*/session.sqlite")):
        with sqlite3.connect(file) as session:
            for *mutant, outcome in session.execute(
                f"select {MUTANT}, test_outcome from mutation_specs join work_results using(job_id)"
            ):
                module = mutant[0]
                own = known.setdefault(module, {"digest": _digest(file.parent / module)})
                own[_named(mutant)] = str(outcome).rpartition(".")[2].lower()
    return known


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _named(mutant: Sequence[Any]) -> str:
    _, operator, occurrence, row, column = mutant
    return f"{row}:{column} {operator.rpartition('/')[2]} {occurrence}"


def _cosmic(lab: Path) -> None:
    kernels = lab.name == "kernels"
    tests = command("pytest", "-x", "-q", "-p", "no:unraisableexception", "-p", "no:cacheprovider")
    tests += [*files(REFERENCE[lab.name]), *DESELECT]
    config, file = lab / "cosmic-ray.toml", lab / "session.sqlite"
    config.write_text(
        '[cosmic-ray]\nmodule-path = "l0gate/reference"\ntimeout = 300.0\nexcluded-modules = []\n'
        f'test-command = "{" ".join(tests)}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    settings = environment(lab)
    if kernels:  # they are run little, so that compiling them well would take longer
        settings["NUMBA_OPT"] = "0"
    if not file.exists():
        subprocess.run(command("cosmic-ray", "init", config.name, file.name), cwd=lab, check=True)
        _sample(file, kernels)
    # The tests must pass without a mutant; this also compiles what is not mutated.
    subprocess.run(tests, cwd=lab, env=settings, check=True)
    run = command("cosmic-ray", "exec", config.name, file.name)
    subprocess.run(run, cwd=lab, env=settings, check=True)


def _sample(file: Path, kernels: bool) -> None:
    """Leave 200 mutants, drawn from all that could be noticed; annotations are never evaluated."""
    with sqlite3.connect(file) as session:
        rows = session.execute(f"select job_id, {MUTANT} from mutation_specs").fetchall()
        hidden = {module: _annotations(file.parent / module) for module in {row[1] for row in rows}}
        visible = [r for r in rows if not any(a <= r[4:] < b for a, b in hidden[r[1]])]
        # By lot, which for each mutant depends on itself alone: where one file changes, most of the
        # others' stay. Job ids and their order are new in every session.
        drawn = sorted(visible, key=lambda row: hashlib.sha256(repr(row[1:]).encode()).digest())
        drawn = drawn[:SAMPLE]
        left = {row[0] for row in drawn if (Path(row[1]).stem in KERNELS.split()) == kernels}
        for table in ("mutation_specs", "work_items"):
            for row in rows:
                if row[0] not in left:
                    session.execute(f"delete from {table} where job_id = ?", row[:1])
    known, work = read_known().get("reference", {}), WorkDB(str(file), WorkDB.Mode.open)
    for job, *mutant in drawn:
        own = known.get(mutant[0], {})
        outcome = own.get(_named(mutant))
        if job in left and outcome and own["digest"] == _digest(file.parent / mutant[0]):
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


def cosmic_results(lab: Path) -> Iterator[tuple[str, str, str]]:
    """(module, mutant, result) of the sample."""
    query = (
        f"select {MUTANT}, test_outcome from mutation_specs left join work_results using (job_id)"
    )
    for file in sorted(lab.glob("*/session.sqlite")):
        with sqlite3.connect(file) as session:
            for module, operator, occurrence, row, _, outcome in session.execute(query):
                result = UNSEEN if outcome is None else str(outcome).rpartition(".")[2].lower()
                result = KILLED if result in ("killed", "incompetent") else result
                yield module, f"line {row}: {operator.rpartition('/')[2]} {occurrence}", result


def report(results: list[tuple[str, str, str]]) -> int:
    """Print a line per module and every survivor; 0 if enough were killed."""
    print(f"{'module':32} mutants   mypy  tests  survived  noticed  by tests alone")
    modules = sorted({module for module, _, _ in results})
    noticed = 0.0
    for module in [*modules, "all"]:
        own = [result for m, _, result in results if module in (m, "all") and result != UNSEEN]
        typed, killed, left = (own.count(kind) for kind in (TYPED, KILLED, SURVIVED))
        if own:
            noticed = 1 - left / len(own)
            alone = killed / max(1, killed + left)
            print(
                f"{module:32} {len(own):7} {typed:6} {killed:6} {left:9} {noticed:8.1%}"
                f" {alone:8.1%}"
            )
    print(*(f"{m} {name}" for m, name, result in results if result == SURVIVED), sep="\n")
    unseen = sum(result == UNSEEN for _, _, result in results)
    if unseen:
        print(f"{unseen} mutants have not been run")
    return int(not results or unseen > 0 or noticed < WANTED)


if __name__ == "__main__":
    sys.exit(main())
