"""Arrays from HDF5 files of strangers: no links to other files, no more data than a file holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check

__all__ = ["arrays_under", "needs_h5py", "open_h5", "text_attribute"]


def needs_h5py() -> Any:
    """The package h5py, which only Keras files need."""
    try:
        import h5py
    except ImportError:
        raise L0GateError(
            "Keras files need the package h5py: pip install 'l0gate[keras]'"
        ) from None
    return h5py


def open_h5(content: bytes) -> Any:
    """An HDF5 file from its bytes, to read."""
    h5py = needs_h5py()
    try:
        return h5py.File(io.BytesIO(content), "r")
    except Exception as error:  # h5py raises many kinds
        raise L0GateError(f"is no HDF5 file, or is damaged: {error}") from None


def arrays_under(group: Any, path: str, limit: int) -> dict[str, np.ndarray]:
    """All datasets below a path, by the rest of their paths, as float32. `limit` is in bytes.

    Soft and external links are not followed, so a file cannot name another.
    """
    found: dict[str, np.ndarray] = {}
    for name, dataset in _datasets(group, path):
        known = dataset.dtype.kind in "iuf" and not dataset.is_virtual and not dataset.external
        check(known, f"has the dataset {path}/{name} of {dataset.dtype}, which is no plain array")
        check(
            dataset.size * dataset.dtype.itemsize <= limit,
            f"has the dataset {path}/{name} of shape {dataset.shape}, more than the file can hold",
        )
        try:
            found[name] = np.asarray(dataset[()], np.float32)
        except Exception as error:
            raise L0GateError(f"has a dataset {path}/{name} that cannot be read: {error}") from None
    return found


def _datasets(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    h5py = needs_h5py()
    here = _hard(group, path)
    if here is None:
        return
    waiting = [("", here)]
    seen = 0
    while waiting:
        prefix, node = waiting.pop()
        for name in node:
            seen += 1
            check(seen < 100_000, "has more than 100,000 entries")
            child = _hard(node, name)
            if isinstance(child, h5py.Dataset):
                yield f"{prefix}{name}", child
            elif isinstance(child, h5py.Group) and prefix.count("/") < 20:
                waiting.append((f"{prefix}{name}/", child))


def _hard(group: Any, path: str) -> Any:
    """The object at a path of hard links; None if there is none."""
    h5py = needs_h5py()
    node = group
    for name in path.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or name not in node:
            return None
        check(
            isinstance(node.get(name, getlink=True), h5py.HardLink),
            f"has a link at {name!r} to another place or file, which is not followed",
        )
        node = node[name]
    return node


def text_attribute(holder: Any, name: str) -> str | None:
    """An attribute as text; None if there is none."""
    value = holder.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None
