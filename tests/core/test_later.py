"""Names that a package imports on first access."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import l0gate
import l0gate.backends
import l0gate.reference

INIT = """
from typing import Any
from l0gate._later import import_later
now = 1
__all__ = ["late", "now"]
__getattr__, __dir__ = import_later(__name__, __all__, {"late": "_deep.inner"}, ["sub"])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package `shop` with the late name `late`, the public submodule `sub`, and `_deep`."""
    files = {
        "__init__.py": INIT,
        "sub.py": "value = 3",
        "_deep/__init__.py": "",
        "_deep/inner.py": "late = [2]",
    }
    for name, text in files.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("shop")
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def test_a_late_name_is_imported_on_first_access(package: ModuleType) -> None:
    assert "shop._deep.inner" not in sys.modules
    first = package.late
    assert first == [2]
    assert "shop._deep.inner" in sys.modules
    assert vars(package)["late"] is first


def test_a_submodule_is_imported_when_it_is_accessed(package: ModuleType) -> None:
    assert "shop.sub" not in sys.modules
    assert package.sub.value == 3
    assert package.sub is sys.modules["shop.sub"]


def test_other_names_are_an_attribute_error(package: ModuleType) -> None:
    for name in ("other", "inner", "_deep"):
        with pytest.raises(AttributeError, match=f"module 'shop' has no attribute '{name}'"):
            getattr(package, name)
    assert not hasattr(package, "__wrapped__")


def test_dir_lists_public_names_and_submodules_only(package: ModuleType) -> None:
    def listed() -> list[str]:
        return [name for name in dir(package) if not name.startswith("__")]

    assert listed() == ["late", "now", "sub"]
    assert "__doc__" in dir(package)
    assert "shop._deep.inner" not in sys.modules  # listing imports nothing
    assert package.late == [2]  # which adds the submodule `_deep` to the package
    assert listed() == ["late", "now", "sub"]


@pytest.mark.parametrize("package", [l0gate, l0gate.backends, l0gate.reference], ids=repr)
def test_dir_of_our_packages(package: ModuleType) -> None:
    listed = [name for name in dir(package) if not name.startswith("__")]
    modules = {name for name in listed if isinstance(getattr(package, name), ModuleType)}
    assert set(listed) - modules == set(package.__all__)
    assert not {name for name in listed if name.startswith("_")}
    if package is l0gate:
        assert modules == {"backends", "files", "formats", "methods", "npz", "reference", "testing"}
    else:
        assert not modules


def test_submodules_need_no_import_statement() -> None:
    code = (
        "import sys, l0gate\n"
        "assert 'l0gate.reference' in {f'l0gate.{name}' for name in dir(l0gate)}\n"
        "assert 'l0gate.reference' not in sys.modules\n"
        "print(l0gate.reference.Net.__name__, l0gate.methods.Random.__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "Net Random\n", result.stderr
