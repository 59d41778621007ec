"""The files of a finished job's report: report.json for programs, report.png for people."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.cli._folders import PICTURE, REPORT
from l0gate.cli._report_data import NETS
from l0gate.cli._training import Training
from l0gate.files import write_atomically

KEYS = (*NETS, "metric", "options", "text", "comparison", "certificate", "speedup", "seconds")


def write_report(
    folder: Path,
    report: Mapping[str, Any],
    phases: Mapping[str, Training],
    kept: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> None:
    """Write report.json and, where matplotlib is installed, report.png.

    By axis, `kept` has the indices of the kept neurons, `sizes` the size in the dense net.
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    write_atomically(folder / REPORT, (text + "\n").encode())
    if importlib.util.find_spec("matplotlib") is not None:
        from l0gate.cli._report_picture import draw

        write_atomically(folder / PICTURE, draw(report, phases, kept, sizes))


def read_report(folder: Path) -> dict[str, Any]:
    """The content of a run's report.json. A file that lacks any of `KEYS` is refused."""
    path = folder / REPORT
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise L0GateError(f"`RUN` '{folder}': '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise L0GateError(f"`RUN` '{folder}': '{path}' is no JSON: {error}") from None
    complete = isinstance(report, dict) and all(key in report for key in KEYS)
    check(complete, f"`RUN` '{folder}': '{path}' is no report of `l0gate train`")
    assert isinstance(report, dict)
    return report
