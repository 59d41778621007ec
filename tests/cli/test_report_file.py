"""The files of a report, and what is refused as one."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import REPORT

from l0gate import L0GateError
from l0gate.cli._report_file import KEYS, read_report, write_report


def test_the_files_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without matplotlib there is no picture, and no error.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    write_report(tmp_path, REPORT, {}, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == json.dumps(REPORT, indent=2) + "\n"
    assert read_report(tmp_path) == REPORT
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path, {**REPORT, "metric": math.nan}, {}, {}, {})
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    drawn: list[Any] = []
    monkeypatch.setattr(
        "l0gate.cli._report_picture.draw", lambda *given: drawn.append(given) or b"PNG"
    )
    kept, sizes = {"x": np.arange(2)}, {"x": 3}
    write_report(tmp_path, REPORT, {"gated": "a training"}, kept, sizes)  # type: ignore[dict-item]
    assert drawn == [(REPORT, {"gated": "a training"}, kept, sizes)]
    assert (tmp_path / "report.png").read_bytes() == b"PNG"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        ("[]", "is no report of `l0gate train`"),
        ("{}", "is no report of `l0gate train`"),
        *(
            (json.dumps({k: v for k, v in REPORT.items() if k != key}), "is no report of")
            for key in KEYS
        ),
    ],
)
def test_what_is_no_report(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(L0GateError) as error:
        read_report(tmp_path)
    assert str(error.value).startswith(f"`RUN` '{tmp_path}': '{path}' {message}")
