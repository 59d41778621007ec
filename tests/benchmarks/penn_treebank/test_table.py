"""The page on Penn TreeBank says what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penn_treebank_rows import row
from scripts import ROOT


def test_the_page_says_what_the_results_say(load: Any, tmp_path: Path) -> None:
    table = load("table")
    made = [
        row("small", "dense", (200, 200, 200), 114.3),
        row("small", "l0", (129, 82, 132), 113.4, at_cut={"test": 130.0}),
        row("small", "iss", (130, 90, 130), 115.0),
        row("small", "random", (140, 95, 130), 113.0),
    ]
    for i, each in enumerate(made):
        (tmp_path / f"made{i}-seed1.json").write_text(json.dumps(each))
    faster = {"l0gate": 3.25, "torch": 2.0}
    speed = {"dense": [200] * 3, "small": [129, 82, 132], "batch 1": {"faster": faster}}
    speed["batch 1"]["us"] = {"l0gate dense": 300.0, "l0gate small": 90.0}
    (tmp_path / "speed.json").write_text(json.dumps({"rows": [speed]}))
    page = table.filled("before\n<!-- results -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    lines = [line for line in page.splitlines() if line.startswith("| 2 x 200 | l0 ")]
    assert lines == [
        "| 2 x 200 | l0 | 1 | 113.4 | 116.4 | 130.0 | 129 + 82 + 132 | 182,200 | 10 | 5 | l0gate"
        " 3.2, torch 2.0 | 10 |",
        f"| 2 x 200 | l0 |  | {table.MISSING} |  |  |  |  |  |  |  |  |",
    ]
    assert page.count(table.MISSING) == 11
    assert "better than iss, which reaches 115.0" in page
    assert "NOT better than random, which reaches 113.0" in page
    assert "python train.py random" in page
    assert table.filled(page, tmp_path) == page
    picture = tmp_path / "picture.png"
    table.plot(picture, made, [speed])
    assert picture.stat().st_size > 1000


def test_seeds_count_by_their_mean(load: Any) -> None:
    """The best of two would be no fair match for one."""
    rival, first, second = (
        row("small", method, (130, 90, 130), test)
        for method, test in (("iss", 113.0), ("l0", 112.0), ("l0", 116.0))
    )
    second["options"] = second["options"] | {"seed": 2}
    (sentence,) = load("table").compared([rival, first, second])
    assert "reach 114.0 (seeds: 112.0, 116.0) with" in sentence
    assert "NOT better than iss, which reaches 113.0 with" in sentence


def test_the_committed_page_is_up_to_date(load: Any) -> None:
    table = load("table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.filled(page, ROOT / "benchmarks" / "penn_treebank" / "results") == page
