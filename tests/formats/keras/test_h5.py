"""HDF5 files of strangers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import l0gate
from l0gate.formats._keras.h5 import arrays_under, open_h5, text_attribute


def file(fill: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as opened:
        fill(opened)
    return buffer.getvalue()


def test_arrays_by_path() -> None:
    def fill(opened: Any) -> None:
        opened["a/b/c"] = np.arange(3)
        opened["a/d"] = np.ones((2, 2))
        opened.attrs["text"] = "words"

    with open_h5(file(fill)) as opened:
        found = arrays_under(opened, "a", 1000)
        assert {name: array.shape for name, array in found.items()} == {"b/c": (3,), "d": (2, 2)}
        assert found["d"].dtype == np.float32
        assert arrays_under(opened, "nowhere", 1000) == {}
        assert text_attribute(opened, "text") == "words"
        assert text_attribute(opened, "none") is None


@pytest.mark.parametrize("content", [b"", b"nonsense", file(lambda f: None)[:100]])
def test_what_is_no_hdf5(content: bytes) -> None:
    with pytest.raises(l0gate.L0GateError, match="is no HDF5 file"):
        open_h5(content)


def test_nothing_outside_the_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as opened:
        opened["x"] = np.ones(3)
    raw = tmp_path / "raw"
    raw.write_bytes(b"\0" * 400)

    def external_link(opened: Any) -> None:
        opened["a/x"] = h5py.ExternalLink(str(secret), "x")

    def soft_link(opened: Any) -> None:
        opened["b"] = np.ones(3)
        opened["a/x"] = h5py.SoftLink("/b")

    def external_storage(opened: Any) -> None:
        opened.create_dataset("a/x", (100,), "f4", external=[(str(raw), 0, 400)])

    def virtual(opened: Any) -> None:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
        opened.create_virtual_dataset("a/x", layout)

    def huge(opened: Any) -> None:
        opened.create_dataset("a/x", (2**40,), "f4", chunks=(1024,))

    def text(opened: Any) -> None:
        opened["a/x"] = "words"

    for fill, message in (
        (external_link, "link"),
        (soft_link, "link"),
        (external_storage, "no plain array"),
        (virtual, "no plain array"),
        (huge, "more than the file can hold"),
        (text, "no plain array"),
    ):
        content = file(fill)
        with open_h5(content) as opened, pytest.raises(l0gate.L0GateError, match=message):
            arrays_under(opened, "a", len(content))
