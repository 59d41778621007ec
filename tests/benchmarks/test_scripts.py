"""Results on disk, which an interrupted script takes up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_results_are_taken_up_again_unless_the_machine_differs(load: Any, tmp_path: Path) -> None:
    scripts = load("_scripts")
    path = tmp_path / "results" / "rows.json"
    results = scripts.Results(path, ("cell", "threads"), seconds=1)
    results.add({"cell": "lstm", "threads": 1, "us": {"l0gate": 1.5}})
    again = scripts.Results(path, ("cell", "threads"), seconds=1)
    assert again.rows == results.rows
    assert again.has(cell="lstm", threads=1)
    assert not again.has(cell="lstm", threads=2)
    again.add({"cell": "gru", "threads": 1, "us": {"l0gate": 2.5}})
    assert [row["cell"] for row in scripts.read(path)["rows"]] == ["lstm", "gru"]
    assert [file.name for file in path.parent.iterdir()] == ["rows.json"]
    assert scripts.Results(path, ("cell", "threads"), seconds=2).rows == []


def test_other_kernels_begin_the_results_anew(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels in subfolders count as well."""
    import l0gate.reference

    scripts = load("_scripts")
    monkeypatch.setattr(l0gate.reference, "__path__", [str(tmp_path)])
    (tmp_path / "compiled" / "simd").mkdir(parents=True)
    kernel = tmp_path / "compiled" / "simd" / "kernel.py"
    kernel.write_text("a = 1\n")
    before = scripts.kernels_digest()
    assert scripts.kernels_digest() == before
    kernel.write_text("a = 2\n")
    assert scripts.kernels_digest() != before
