"""Where mutants live: the package as it is installed, beside the tests, in `build/mutation`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABS = ROOT / "build" / "mutation"
KILLED, TYPED, SURVIVED, UNSEEN = "killed", "refused by mypy", "survived", "not run"
# Tests by their names that are left out, whichever file they are in.
_LEFT_OUT = (
    # They start other processes, which takes long, and hold nothing that quicker tests do not.
    "test_kernels_that_were_compiled_in_different_processes",
    "test_a_real_entry_point_is_found",
    "test_a_framework_that_asks_for_a_backend_while_it_loads",
    # mutmut adds names of its own to every module.
    "test_the_public_names",
    # mutmut stands between the caller and the function that looks for it.
    "test_a_warning_points_at_the_line_that_called_l0gate",
)
DESELECT = ("-k", f"not ({' or '.join(_LEFT_OUT)})")


def lay_out(lab: Path) -> None:
    """The package as it is installed, beside the tests, both as they are now."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(lab), str(ROOT)], check=True)
    shutil.rmtree(lab / "tests", ignore_errors=True)
    shutil.copytree(ROOT / "tests", lab / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", lab)


def command(*words: str) -> list[str]:
    """A program of this environment."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def environment(lab: Path, load_ahead: bool) -> dict[str, str]:
    """The same examples for every mutant, nothing shrunk after a failure, one thread.

    With `load_ahead`, conftest.py imports what tests need and compiles kernels at the start: worth
    it where all mutants are forked from one process.
    """
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
        "L0GATE_TESTS_LOAD_AHEAD": "1" if load_ahead else "",
        "PYTHONDONTWRITEBYTECODE": "",  # what is imported anew for every mutant is compiled once
    }


def tests_in(patterns: Sequence[str]) -> list[str]:
    """The test files of folders, and those that match a pattern, in this order, each once."""
    tests, found = ROOT / "tests", {}
    for pattern in patterns:
        below = f"{pattern}/**/test_*.py" if (tests / pattern).is_dir() else pattern
        files = sorted(tests.glob(below))
        if not files:
            raise SystemExit(f"there are no tests in tests/{pattern}")
        found |= {str(file.relative_to(ROOT)): None for file in files}
    return list(found)
