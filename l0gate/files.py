"""Checked paths, and atomic writing: a crash leaves the old file or the complete new one."""

from __future__ import annotations

import os
from pathlib import Path

from l0gate._errors import L0GateError

__all__ = ["check_path", "write_atomically"]


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path as a `Path`. Raises if it cannot be the path of a file."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or "\0" in text or not text:
        raise L0GateError(f"`path` is {path!r}; it must be the path of a file")
    return Path(text)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a temporary file, then rename it: readers see the old file or the complete new one.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "row.json")
    >>> write_atomically(path, b"{}")
    >>> open(path, "rb").read()
    b'{}'
    """
    import secrets

    target = Path(os.path.realpath(check_path(path)))  # a link stays a link
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # also an interrupt must not leave the temporary file
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise L0GateError(
                f"`path` {str(target)!r} cannot be written: {error.strerror}"
            ) from None
        raise
