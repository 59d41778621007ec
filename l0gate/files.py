"""Files: paths that are checked, and writing that leaves the old file or the whole new one."""

from __future__ import annotations

import os
from contextlib import suppress

from l0gate._errors import L0GateError

__all__ = ["check_path", "write_atomically"]
# `pathlib` is not used, and `secrets` is imported only for writing, so that `import l0gate` takes
# little longer than importing NumPy.


def check_path(path: str | os.PathLike[str]) -> str:
    """The path as text. Raises if it cannot be the path of a file."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or "\0" in text or not text:
        raise L0GateError(f"`path` is {path!r}; it must be the path of a file")
    return text


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside the target and rename it: readers see the old file or the new one, whole.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "row.json")
    >>> write_atomically(path, b"{}")
    >>> open(path, "rb").read()
    b'{}'
    """
    import secrets

    target = os.path.realpath(check_path(path))  # a link stays a link
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(target):
                os.chmod(temporary, os.stat(target).st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # an interrupt must not leave the temporary file
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise L0GateError(f"`path` {target!r} cannot be written: {error.strerror}") from None
        raise
