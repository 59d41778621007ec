"""The examples in the docstrings of `reference` run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import l0gate.reference

MODULES = [
    name for _, name, _ in pkgutil.walk_packages(l0gate.reference.__path__, "l0gate.reference.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    "package",
    ["", ".runtime", ".compiled", ".compiled.inference", ".compiled.simd", ".compiled.training"],
)
def test_a_package_lists_its_modules(package: str) -> None:
    module = importlib.import_module(f"l0gate.reference{package}")
    for _, name, is_package in pkgutil.iter_modules(module.__path__):
        assert f"`{name}{'/' if is_package else ''}`" in (module.__doc__ or ""), name


@pytest.mark.parametrize("name", l0gate.reference.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    public = getattr(l0gate.reference, name)
    assert inspect.getdoc(public)
    if not name.endswith("_backward"):  # which need a tape: their forward's example is enough
        assert doctest.DocTestFinder().find(public, name)[0].examples


def test_importing_needs_numpy_alone() -> None:
    code = (
        "import sys, l0gate.reference; "
        "print([m for m in ('numba', 'scipy', 'torch', 'pytest') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"
