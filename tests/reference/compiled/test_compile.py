"""Kernels on disk: kept where they can be, and compiled anew when their source changes."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import numba
import pytest

from l0gate import L0GateError
from l0gate.reference.compiled import compile


def test_compiles_where_nothing_can_be_cached():
    scope: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", scope)  # without a file there is no cache
    assert compile.compiled(scope["double"])(21) == 42


def triple(x):
    return 3 * x


def test_a_full_disk_is_no_error(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    assert compile.compiled(triple)(14) == 42


def test_a_kernel_is_compiled_anew_when_any_kernel_file_changes(monkeypatch):
    kernel = compile.compiled(triple)
    codegen = kernel.targetctx.codegen()
    key = kernel._cache._index_key((numba.int64,), codegen)
    assert kernel._cache._index_key((numba.int64,), codegen) == key
    monkeypatch.setattr(compile, "_sources", lambda: "changed")
    assert kernel._cache._index_key((numba.int64,), codegen) != key


def test_every_file_with_kernels_counts():
    """Otherwise a change of it would go unseen where kernels are kept on disk."""
    folder = Path(compile.__file__).parent
    found = {
        str(path.relative_to(folder).with_suffix(""))
        for path in folder.rglob("*.py")
        if "@inlined" in path.read_text() or "intrinsic" in path.read_text()
    }
    assert found == set(compile._KERNELS) - {"compile", "inference/plan"}  # which has constants


def test_every_file_with_constants_of_kernels_counts():
    """Constants are compiled into kernels, so a change of one must be seen as well."""
    folder = Path(compile.__file__).parent
    package = compile.__package__ + "."
    for kernels in compile._KERNELS:
        for node in ast.walk(ast.parse((folder / f"{kernels}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and package in node.module:
                read = node.module.removeprefix(package).replace(".", "/")
                constants = [name.name for name in node.names if name.name.isupper()]
                assert not constants or read in compile._KERNELS, (kernels, constants)


def test_a_kernel_file_that_was_renamed_is_an_error(tmp_path, monkeypatch):
    """A digest without it would let numba serve what was compiled before an edit."""
    copy = tmp_path / "copied_kernels"
    shutil.copytree(Path(compile.__file__).parent, copy)
    (copy / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = compile._sources.__wrapped__("copied_kernels")
    kernels = copy / f"{compile._KERNELS[-1]}.py"
    kernels.write_text(kernels.read_text() + "# edited")
    assert compile._sources.__wrapped__("copied_kernels") != before
    kernels.rename(kernels.with_name("renamed.py"))
    message = f"{compile._KERNELS[-1]}.py' of copied_kernels cannot be read"
    with pytest.raises(L0GateError, match=message):
        compile._sources.__wrapped__("copied_kernels")
