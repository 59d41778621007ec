"""`pack` and `unpack`: arrays and a manifest as bytes, and every kind of damage to them."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.npz import pack, unpack


def test_the_same_bytes_under_another_dtype_or_shape_are_noticed() -> None:
    content = pack({"w": np.arange(6, dtype=np.float32)}, {})
    with np.load(io.BytesIO(content)) as file:
        manifest, w = file["manifest"], file["w"]
    for other in (w, w.view(np.int32), w.view(">f4"), w.reshape(2, 3), w[:, None], w.view("f8")):
        buffer = io.BytesIO()
        np.savez(buffer, manifest=manifest, w=other)
        if other is w:
            assert unpack(io.BytesIO(buffer.getvalue()))[0]["w"].tolist() == [0, 1, 2, 3, 4, 5]
            continue
        with pytest.raises(L0GateError, match="is damaged: array 'w' was altered"):
            unpack(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("name", ["a.npy", "", "a\0b", "a\nb", "x" * 1000, "\ud800"])
def test_names_that_a_file_cannot_hold(name: str) -> None:
    with pytest.raises(L0GateError, match="which a file cannot hold"):
        pack({name: np.zeros(2)}, {})


def test_unpack_notices_missing_arrays() -> None:
    arrays, manifest = unpack(io.BytesIO(pack({"a": np.arange(3)}, {"k": 1})))
    assert arrays["a"].tolist() == [0, 1, 2]
    assert manifest["k"] == 1


def test_all_numbers_can_be_packed() -> None:
    kinds = {
        "b": np.array([True]),
        "i": np.arange(3),
        "u": np.arange(3, dtype=np.uint8),
        "f": np.ones((2, 3), order="F"),
        "x" * 999: np.array(1.5),
    }
    arrays, _ = unpack(io.BytesIO(pack(kinds, {})))
    assert list(arrays) == list(kinds)
    for name, array in kinds.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    # The same content gives the same bytes, whatever the order of its manifest.
    assert pack(kinds, {"a": 1, "b": 2}) == pack(kinds, {"b": 2, "a": 1})


def large() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((130, 90))
    return {"rows": rows, "columns": np.asfortranarray(rows), "flags": rng.random(70_000) < 0.5}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_arrays_are_read_at_once(save: Any, tmp_path: Path) -> None:
    with np.load(io.BytesIO(pack(large(), {"k": 1}))) as file:  # another program writes it again
        arrays = {name: file[name] for name in file.files}
    arrays["columns"] = np.asfortranarray(arrays["columns"])
    buffer = io.BytesIO()
    save(buffer, **arrays)
    content = buffer.getvalue()
    (tmp_path / "large.npz").write_bytes(content)
    with (tmp_path / "large.npz").open("rb") as file:
        found, manifest = unpack(file)
    assert manifest["k"] == 1
    for name, array in large().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable
        assert found[name].flags.f_contiguous == array.flags.f_contiguous
    assert unpack(io.BytesIO(content))[0].keys() == found.keys()

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise OSError("a pipe goes forward only")

    assert unpack(Pipe(content))[0].keys() == found.keys()


def test_arrays_in_other_versions_of_numpys_format() -> None:
    packed = io.BytesIO(pack(large(), {}))
    for version, shape in (((2, 0), ""), ((3, 0), ""), ((1, 0), "(230, 90)")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(packed) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "rows.npy":
                    member = io.BytesIO()
                    np.lib.format.write_array(member, large()["rows"], version)
                    content = member.getvalue()
                    if shape:  # more than the member holds; other arrays come after it
                        content = content.replace(b"(130, 90)", shape.encode())
                new.writestr(name, content)
        if version == (2, 0):
            np.testing.assert_array_equal(unpack(buffer)[0]["rows"], large()["rows"])
            continue
        expected = "is truncated" if shape else "is damaged: an array has format (3, 0)"
        with pytest.raises(L0GateError, match=f"^{re.escape(expected)}$"):
            unpack(buffer)


def test_every_kind_of_damage_to_a_large_array_is_noticed() -> None:
    content = pack(large(), {})
    start = content.index(b"rows.npy")
    header = content.index(b"NUMPY", start) - 1
    places = [
        header + 50_000,  # the data
        header + 6,  # the version of the format
        header + 8,  # the length of the array's header
        content.index(b"130", header),  # the shape
        content.index(b"<f8", header) + 1,  # the dtype
        start - 4,  # the length of the name
    ]
    for place in places:
        altered = bytearray(content)
        altered[place] ^= 0x06
        with pytest.raises(L0GateError, match=r"damaged|truncated|altered|no l0gate file"):
            unpack(io.BytesIO(altered))
    for end in (header + 70_000, len(content) - 1):
        with pytest.raises(L0GateError, match="truncated"):
            unpack(io.BytesIO(content[:end]))


def test_damage_to_a_large_manifest_is_noticed() -> None:
    content = bytearray(pack({"a": np.arange(3)}, {"words": ["word"] * 20_000}))
    content[content.index(b"word", content.index(b'"words"') + 8) + 40_000] ^= 1
    with pytest.raises(L0GateError, match=r"BadZipFile: Bad CRC-32 for file 'manifest\.npy'"):
        unpack(io.BytesIO(content))
