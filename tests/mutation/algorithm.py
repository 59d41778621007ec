"""Every mutant of `l0gate/`, or some of them, by mutmut.

mutmut forks a process for every mutant, which is fast, and leaves decorated functions alone. mypy
refuses what it can. The rest meets in a first round the tests that mirror the modules, and what
survives those meets the other tests in a second round, in a lab of its own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mutation import known
from mutation.lab import (
    DESELECT,
    KILLED,
    ROOT,
    SURVIVED,
    TYPED,
    UNSEEN,
    command,
    environment,
    lay_out,
    tests_in,
)

PART = "l0gate"
_SECOND_LAB = "others"
_ROOMS = ("core", "layout", "methods", "reports", "cli", "testing", "properties")
_OTHERS = (
    *_ROOMS,
    "backends/test_*.py",
    "backends/torch/test_backend.py",
    "backends/torch/gating/test_methods.py",
)
# 0: all tests passed. 5 and 33: no test calls the function. 37: the types are wrong.
_MEANING = {None: UNSEEN, 0: SURVIVED, 5: SURVIVED, 33: SURVIVED, 37: TYPED}
# What `mutmut run` does first.
_GENERATE = """
from pathlib import Path
from mutmut import __main__ as mutmut
mutmut.set_mutant_under_test("mutant_generation")
Path("mutants").mkdir(exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.setup_source_paths()
mutmut.create_mutants(2)
"""

Result = tuple[str, str, str]  # module, mutant, what became of it


def run(lab: Path, sample: int | None) -> set[tuple[str, str]] | None:
    """Run what has no result, or a sample anew; returns the (module, mutant) pairs of a sample."""
    chosen = None
    if sample is not None:
        shutil.rmtree(lab, ignore_errors=True)
    _prepare(lab, _mirrors(), types=True)
    if sample is not None:
        _generate(lab)
        chosen = _drawn(lab, sample)
        _trim(lab, chosen)
    _mutmut(lab, chosen or ())
    survivors = [
        (module, name)
        for module, name, result in results(lab)
        if result == SURVIVED and (chosen is None or (module, name) in chosen)
    ]
    if survivors:
        second = lab / _SECOND_LAB
        # Which tests meet which function is found anew: tests may have changed.
        (second / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
        _prepare(second, [*dict.fromkeys([*_mirrors(), *tests_in(_OTHERS)])], types=False)
        _generate(second)
        _trim(second, set(survivors))
        _mutmut(second, survivors)
    return chosen


def _mirrors() -> list[str]:
    """The test files that mirror the modules: l0gate/_x.py and l0gate/cli/_x.py, say."""
    found = []
    for module in sorted((ROOT / "l0gate").rglob("*.py")):
        folder = module.parent.relative_to(ROOT / "l0gate")
        room = ROOT / "tests" / ("core" if folder == Path() else folder)
        test = room / f"test_{module.stem.strip('_')}.py"
        found += [str(test.relative_to(ROOT))] if test.exists() else []
    return found


def _prepare(lab: Path, tests: Sequence[str], types: bool) -> None:
    """Lay out the package, with mutmut's settings, and hand mutmut what is known."""
    lay_out(lab)
    if lab.name != _SECOND_LAB:
        for round_, where in enumerate((lab, lab / _SECOND_LAB)):
            _restore(lab, round_, where)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if not types:  # mypy has let them pass
        settings = re.sub("type_check_command = .*", "", settings)
    settings += f"pytest_add_cli_args_test_selection = {[*tests, *DESELECT]}\n"
    (lab / "pyproject.toml").write_text(settings, encoding="utf-8")


def _mutmut(lab: Path, mutants: Iterable[tuple[str, str]]) -> None:
    """Run those mutants, whatever is known of them; without any, all that have no result."""
    names = [f"{_package(module)}.{name}" for module, name in mutants]
    subprocess.run(command("mutmut", "run", *names), cwd=lab, env=_environment(lab), check=True)


def _environment(lab: Path) -> dict[str, str]:
    return environment(lab, load_ahead=True)


def _package(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _generate(lab: Path) -> None:
    """Write the mutants, as `mutmut run` does at first."""
    subprocess.run([sys.executable, "-c", _GENERATE], cwd=lab, env=_environment(lab), check=True)


def _trim(lab: Path, chosen: set[tuple[str, str]]) -> None:
    """Take all other mutants out of the files, which mypy and Python then read in seconds."""
    for meta in lab.glob("mutants/l0gate/**/*.meta"):
        path = meta.with_suffix("")
        module = str(path.relative_to(lab / "mutants"))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        dropped = set()
        for node in ast.walk(ast.parse("".join(lines))):
            if not isinstance(node, ast.FunctionDef):
                continue
            mutant = re.search(r"__mutmut_\d+$", node.name)
            if mutant and (module, node.name) not in chosen:
                dropped.add(node.name)
                begin = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                lines[begin - 1 : node.end_lineno] = [""] * (node.end_lineno - begin + 1)
        if dropped:
            kept = [line for line in lines if _registered(line) not in dropped]
            path.write_text("".join(kept), encoding="utf-8")


def _registered(line: str) -> str:
    """The mutant of a line `mutants_f__mutmut['f__mutmut_1'] = f__mutmut_1`; else nothing."""
    found = re.match(r"mutants_\w+\['(\w+)'\] = ", line)
    return found[1] if found else ""


def _drawn(lab: Path, count: int) -> set[tuple[str, str]]:
    """By lot, which for each mutant depends on its name alone."""
    every = [(module, name) for module, name, _ in results(lab)]
    return set(sorted(every, key=lambda key: hashlib.sha256(repr(key).encode()).digest())[:count])


def found(lab: Path) -> dict[str, dict[str, str]]:
    """What has become known in a lab, as docs/mutation.json holds it."""
    modules: dict[str, dict[str, str]] = {}
    for module, first, second in _rounds(lab):
        functions: dict[str, list[list[int | None]]] = {}
        for name, code in first["exit_code_by_key"].items():
            codes = functions.setdefault(_function(name), [[], []])
            codes[0].append(code)
            codes[1].append(second.get(name))
        digests = first["hash_by_function_name"]
        modules[module] = {
            name: f"{digests.get(name, '')}: " + "; ".join(map(_in_words, both))
            for name, both in functions.items()
            if any(code is not None for codes in both for code in codes)
        }
    return modules


def results(lab: Path) -> Iterator[Result]:
    """(module, mutant, result) of every mutant in a lab."""
    for module, first, second in _rounds(lab):
        for name, code in first["exit_code_by_key"].items():
            yield module, name.rpartition(".")[2], _result(code, second.get(name))


def known_results() -> Iterator[Result]:
    """The same from docs/mutation.json, which knows no mutant of functions without a result."""
    for module, functions in known.read(PART).items():
        for name, text in functions.items():
            rounds = text.partition(": ")[2].split("; ")
            both = zip(*(map(_code, codes.split()) for codes in rounds), strict=True)
            for number, (first, second) in enumerate(both, 1):
                yield module, f"{name}__mutmut_{number}", _result(first, second)


def _result(first: int | None, second: int | None) -> str:
    result = _MEANING.get(first, KILLED)
    return _MEANING.get(second, KILLED) if result == SURVIVED and second is not None else result


def _rounds(lab: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, int | None]]]:
    """(module, what the first round wrote, the second's codes for functions that are the same)."""
    for path in sorted(lab.glob("mutants/l0gate/**/*.meta")):
        module = str(path.relative_to(lab / "mutants")).removesuffix(".meta")
        first, later = json.loads(path.read_text(encoding="utf-8")), lab / _SECOND_LAB
        later /= path.relative_to(lab)
        second = json.loads(later.read_text(encoding="utf-8")) if later.exists() else {}
        now, then = (part.get("hash_by_function_name", {}) for part in (first, second))
        codes = second.get("exit_code_by_key", {}).items()
        same = {k: v for k, v in codes if now.get(_function(k)) == then.get(_function(k))}
        yield module, first, same


def _in_words(codes: Sequence[int | None]) -> str:
    return " ".join("-" if code is None else str(code) for code in codes)


def _code(word: str) -> int | None:
    return None if word == "-" else int(word)


def _function(mutant: str) -> str:
    """Of a mutant's name: module.function__mutmut_number."""
    return mutant.rpartition(".")[2].rpartition("__mutmut_")[0]


def _restore(lab: Path, round_: int, where: Path) -> None:
    """Write what is known where mutmut looks for it; it forgets functions that have changed."""
    for module, functions in known.read(PART).items():
        path = where / "mutants" / f"{module}.meta"
        if path.exists() or not (lab / module).exists():
            continue
        codes, digests = {}, {}
        for name, text in functions.items():
            digests[name], _, rounds = text.partition(": ")
            for number, word in enumerate(rounds.split("; ")[round_].split(), 1):
                codes[f"{_package(module)}.{name}__mutmut_{number}"] = _code(word)
        meta: dict[str, Any] = {"exit_code_by_key": codes, "hash_by_function_name": digests}
        others = "type_check_error_by_key", "durations_by_key", "estimated_durations_by_key"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(meta | {key: {} for key in others}), encoding="utf-8")
