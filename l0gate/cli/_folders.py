"""The folders that runs are written to, runs/1, runs/2, ..., and the names of the files in them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from l0gate._errors import L0GateError, check

CHECKPOINT, MODEL, REPORT, PICTURE = "checkpoint.npz", "model.npz", "report.json", "report.png"
_RUNS = Path("runs")


def next_run() -> Path:
    """The folder whose number follows the highest one that exists."""
    found = _numbered()
    return _RUNS / str(int(found[-1].name) + 1 if found else 1)


def newest_run() -> Path:
    """The folder with the highest number among those that hold a checkpoint."""
    runs = [path for path in _numbered() if (path / CHECKPOINT).exists()]
    check(runs, f"`--resume` found no run in '{_RUNS}'; name its folder with `--out`")
    return runs[-1]


def prepare(folder: Path, resume: bool) -> None:
    """Make the folder of a run. Raises if it cannot be written, or holds another run already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise L0GateError(f"`--out` '{folder}' cannot be written: {error.strerror}") from None
    held = (folder / CHECKPOINT).exists()
    if resume:
        check(held, f"`--resume`: '{folder}' holds no checkpoint")
        remove_partial_checkpoints(folder)
    else:
        check(
            not held,
            f"`--out` '{folder}' holds a run already; go on with it by `--resume`, or choose"
            " another folder",
        )


def remove_partial_checkpoints(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote a checkpoint."""
    for partial in folder.glob(f".{CHECKPOINT}.*"):
        partial.unlink(missing_ok=True)


def _numbered() -> list[Path]:
    """The folders whose names are numbers, in the order of the numbers."""
    found = _RUNS.iterdir() if _RUNS.is_dir() else []
    return sorted((p for p in found if p.name.isdecimal()), key=lambda p: int(p.name))
