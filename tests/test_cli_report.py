"""What a finished job tells: its table and sentences, word by word, and its files."""

from __future__ import annotations

import importlib.util
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from l0gate import L0GateError
from l0gate.cli import _report
from l0gate.cli._report import read_report, show_report, write_report


def net(parameters: int, recurrent: int, sizes: list[int], **figures: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "recurrent_parameters": recurrent,
        "bytes": 4 * parameters,
        "input_size": sizes[0],
        "hidden_sizes": sizes[1:],
        **figures,
    }


REPORT: dict[str, Any] = {
    "metric": "bits_per_character",
    "text": {"name": "book.txt", "unit": "character"},
    "options": {"steps": 2000},
    "dense": net(1234567, 1000000, [64, 256, 128], bits_per_character=1.5),
    "gated": net(1234567, 1000000, [64, 256, 128], bits_per_character=1.75),
    "small": net(234567, 271000, [60, 99, 8], bits_per_character=1.75),
    "direct": net(234567, 271000, [60, 99, 8], bits_per_character=2.0),
    "budget": {"used": 271000, "limit": 280000.0, "with_one_more_neuron": 280123},
    "comparison": {"gap_recovered": 0.5},
    "certificate": {
        "max_abs_difference": 0.0,
        "tolerance": 1e-9,
        "sequences": 4,
        "forced_open": 1,
        "forced_closed": 23,
    },
    "speedup": {
        "engine": "numpy with numba",
        "latency_step": 2.25,
        "latency_step_microseconds": {"dense": 45.4, "small": 20.2},
        "sequence": 3.5,
    },
    "seconds": {"gated": 60.4, "dense": 30.2, "direct": 9.8, "this_run": 123.4},
}


def shown(**changes: Any) -> list[str]:
    out = io.StringIO()
    show_report(Console(file=out, width=120, soft_wrap=True), {**REPORT, **changes})
    return [line.rstrip() for line in out.getvalue().splitlines()]


def sentences(**changes: Any) -> list[str]:
    return shown(**changes)[-5:]


def test_the_table_and_what_follows() -> None:
    lines = shown()
    assert lines[0].strip() == "book.txt, 2,000 steps each"
    cells = [[c.strip() for c in line.strip("┃│").split("┃│"[line[0] == "│"])] for line in lines]
    rows = [row for row in cells if len(row) == 5]
    assert rows == [
        ["", "dense", "gated", "small", "direct"],
        ["parameters", "1,234,567", "1,234,567", "234,567", "234,567"],
        ["recurrent parameters", "1,000,000", "1,000,000", "271,000", "271,000"],
        ["size in kB", "4,938", "4,938", "938", "938"],
        ["embedding", "64", "64", "60", "60"],
        ["hidden", "256 + 128", "256 + 128", "99 + 8", "99 + 8"],
        ["bits per character", "1.500", "1.750", "1.750", "2.000"],
    ]
    assert "│ size in kB           │     4,938 │" in lines[6]  # figures stand at the right
    assert lines[-5:] == [
        "The small net keeps 27.1% of the recurrent parameters: 271,000 of at most 280,000 (one"
        " more neuron: 280,123 or more).",
        "It recovers 50% of the distance from a net of its sizes trained directly to the dense"
        " one.",
        "At batch 1 it runs 2.2 times as fast step by step (45 -> 20 us) and 3.5 times on whole"
        " sequences (numpy with numba).",
        "Gated and small net agree to the last bit on 4 batches of random characters; 1 neurons"
        " were forced open, 23 closed.",
        "Gated training took 60 s, the twins 30 s and 10 s; this run 123 s in all.",
    ]


def test_sentences_of_other_jobs() -> None:
    none_fits = {**REPORT["budget"], "with_one_more_neuron": None}
    assert sentences(budget=none_fits)[0] == (
        "The small net keeps 27.1% of the recurrent parameters: 271,000 of at most 280,000."
    )
    free = "The small net keeps 27.1% of the recurrent parameters."
    assert sentences(budget=None)[0] == free
    # Without twins nothing is compared.
    seconds = {"gated": 60.4, "this_run": 123.4}
    alone = sentences(budget=None, comparison={"gap_recovered": None}, seconds=seconds)
    assert alone[1] == free
    assert alone[-1] == "Gated training took 60 s; this run 123 s in all."
    text = {"name": "a[b]c", "unit": "word"}
    assert shown(text=text)[0].strip() == "a[b]c, 2,000 steps each"
    for gap in (0.0, -0.5):
        better = sentences(comparison={"gap_recovered": gap})[1]
        assert better == "A net of its sizes trained directly does better."
    assert (
        "(as [fast] as can be)"
        in sentences(speedup={**REPORT["speedup"], "engine": "as [fast] as can be"})[2]
    )
    differing = {**REPORT["certificate"], "max_abs_difference": 1.23e-10}
    assert sentences(certificate=differing)[3].startswith(
        "Gated and small net differ by at most 1.2e-10 (allowed 1.0e-09) on 4 batches of"
    )


def test_the_figures_of_held_out_parts() -> None:
    nets = {
        name: net(9, 9, [1, 1], valid_perplexity=valid, perplexity=test)
        for name, valid, test in (("gated", 99.9994, 100.0), ("small", 5e3, 0.5))
    }
    twins = {name: net(9, 9, [1, 1]) for name in ("dense", "direct")}
    lines = "\n".join(shown(metric="perplexity", **nets, **twins))
    table = [line.split("│")[1:-1] for line in lines.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in table[-2:]] == [
        ["valid perplexity", "-", "99.999", "5000.0", "-"],
        ["perplexity", "-", "100.0", "0.500", "-"],
    ]
    held_out = {**REPORT["small"], "valid_bits_per_character": 1.25}
    assert any("│ valid bits per character │" in line for line in shown(small=held_out))


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
    monkeypatch.setattr("l0gate.cli._picture.draw", lambda *given: drawn.append(given) or b"PNG")
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
            for key in _report._KEYS
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
