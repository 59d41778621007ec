"""Arrays and a JSON manifest in one uncompressed `.npz` file, with checksums and without pickle.

`numpy.load` can read the arrays; the array "manifest" is JSON text.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from l0gate._errors import L0GateError, check

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

__all__ = ["pack", "unpack"]
# json, zipfile and zlib are imported only where they are used, so that `import l0gate` stays fast.
_MANIFEST = "manifest"
_LARGE = 2**16  # bytes; larger arrays are read in one piece


def pack(arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> bytes:
    """Arrays and a JSON manifest as the bytes of an `.npz`, with a checksum of every array.

    >>> content = pack({"weight": np.ones(3)}, {"step": 10})
    >>> arrays, manifest = unpack(io.BytesIO(content))
    >>> arrays["weight"].tolist(), manifest["step"]
    ([1.0, 1.0, 1.0], 10)
    """
    import json

    hosts = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in hosts.items():
        check(
            name.isprintable() and 0 < len(name) < 1000 and not name.endswith(".npy"),
            f"an array has the name {name!r}, which a file cannot hold",
        )
        check(array.dtype.kind in "biuf", f"array {name!r} has dtype {array.dtype}, not numbers")
    sums = {name: _checksum(array) for name, array in hosts.items()}
    try:
        text = json.dumps({**manifest, "checksums": sums}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise L0GateError(f"`metadata` must be plain JSON: {error}") from None
    except RecursionError:
        raise L0GateError("`metadata` is nested too deeply") from None
    buffer = io.BytesIO()
    entries: dict[str, Any] = {_MANIFEST: np.frombuffer(text.encode(), dtype=np.uint8), **hosts}
    np.savez(buffer, **entries)
    return buffer.getvalue()


def unpack(file: BinaryIO) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the manifest of `pack`; damage of any kind raises `L0GateError`."""
    import json
    import zipfile

    if not file.seekable():  # a pipe
        file = io.BytesIO(file.read())
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): _read_array(file, archive, info)
                for info in archive.infolist()
            }
        check(_MANIFEST in arrays, "is no l0gate file: it holds no manifest")
        manifest = json.loads(arrays.pop(_MANIFEST).tobytes().decode())
    except L0GateError:
        raise
    except Exception as error:  # on damaged bytes, zip, npy and JSON each raise their own errors
        if not zipfile.is_zipfile(file):
            raise L0GateError("is no l0gate file, or is truncated") from None
        raise L0GateError(f"is truncated or damaged: {type(error).__name__}: {error}") from None
    check(isinstance(manifest, dict), "is no l0gate file: its manifest is no JSON object")
    sums = manifest.get("checksums")
    check(sums is not None, "holds no checksums: it is no l0gate file, or an older one")
    check(
        isinstance(sums, dict) and set(sums) == set(arrays),
        "is damaged: its arrays are not those that the manifest lists",
    )
    for name, array in arrays.items():
        check(_checksum(array) == sums[name], f"is damaged: array {name!r} was altered")
    return arrays, manifest


def _read_array(file: BinaryIO, archive: ZipFile, info: ZipInfo) -> np.ndarray:
    """Read one array of an .npz file.

    A large array is read in one piece, which is faster but skips the check of its zip checksum.
    `unpack` verifies the checksum that l0gate stores itself.
    """
    npy = np.lib.format
    if (
        info.compress_type != 0
        or info.file_size < _LARGE
        or info.filename == f"{_MANIFEST}.npy"  # not covered by l0gate's checksums
    ):
        with archive.open(info) as member:
            small: np.ndarray = npy.read_array(member, allow_pickle=False)
            return small
    file.seek(info.header_offset + 26)  # two lengths in the local zip header
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    file.seek(name + extra, os.SEEK_CUR)
    version = npy.read_magic(file)
    check(version in ((1, 0), (2, 0)), f"is damaged: an array has format {version}")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    check(not dtype.hasobject, "is no l0gate file: it holds Python objects")
    check(math.prod(shape) * dtype.itemsize <= info.file_size, "is truncated")
    array = np.empty(shape[::-1] if fortran else shape, dtype)
    count = file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
    check(count == array.nbytes, "is truncated")
    return array.T if fortran else array


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of dtype, shape and values: fast, and enough to notice damage."""
    from zlib import crc32

    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return crc32(content, crc32(f"{array.dtype.str}{array.shape}".encode()))
