"""Files are written whole or not at all, and paths are checked."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from saved_model_cases import pruned

import l0gate
from l0gate import L0GateError
from l0gate.files import write_atomically


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(L0GateError, match="cannot be written: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_and_its_rights_survive(tmp_path: Path) -> None:
    target, link = tmp_path / "file", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_atomically(link, b"newer")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]
    for bad in (None, 5, b"file", "a\0b", ""):
        with pytest.raises(L0GateError, match="it must be the path of a file"):
            write_atomically(bad, b"")  # type: ignore[arg-type]


def test_paths_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    saved, _, _ = pruned()
    with pytest.raises(L0GateError, match="cannot be read: No such file"):
        l0gate.load(tmp_path / "none.npz")
    with pytest.raises(L0GateError, match="cannot be written: No such file"):
        l0gate.save(tmp_path / "no" / "net.npz", saved)
    with pytest.raises(L0GateError, match="cannot be"):
        l0gate.save(tmp_path, saved)


def test_a_file_is_written_beside_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a hidden name that says whose it is, with the rights of the old one from the start."""
    seen: list[tuple[str, int, bytes]] = []
    sync, move = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        seen.append(("written", descriptor, b""))
        sync(descriptor)

    def replace(source: str, target: str) -> None:
        beside = Path(source)
        seen.append((beside.name, stat.S_IMODE(beside.stat().st_mode), beside.read_bytes()))
        move(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    target = tmp_path / ("n" * 150)
    target.touch(0o640)
    target.chmod(0o640)
    write_atomically(target, b"content")
    (_, (name, mode, content)) = seen
    assert re.fullmatch(r"\.n{100}\.[0-9a-f]{8}", name)
    assert (mode, content) == (0o640, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
