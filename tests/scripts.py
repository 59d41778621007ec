"""Imports the scripts of `benchmarks/` and `examples/`, which find each other as when they run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("L0GATE_DATA") or ROOT.parent / "shared" / "data")


@contextmanager
def modules_of(folder: str) -> Iterator[Callable[[str], Any]]:
    """A function that imports a module of the folder by its name, given from the repository's root.

    Other folders have modules of the same names, so none of them stays in `sys.modules`.
    """
    before, path = dict(sys.modules), list(sys.path)
    sys.path.insert(0, str(ROOT / folder))
    for script in (ROOT / folder).glob("*.py"):
        sys.modules.pop(script.stem, None)
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            file = Path(getattr(module, "__file__", None) or "/")
            if file.is_relative_to(ROOT / Path(folder).parts[0]) and before.get(name) is not module:
                del sys.modules[name]
        for script in (ROOT / folder).glob("*.py"):
            if script.stem in before:
                sys.modules[script.stem] = before[script.stem]


def run(module: Any, monkeypatch: Any, *arguments: Any) -> Any:
    """What the script's `main` returns, called with these words of the command line."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    return module.main()
