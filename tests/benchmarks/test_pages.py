"""The page on speed is what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_page_is_filled_from_results(load: Any, tmp_path: Path) -> None:
    pages = load("pages")
    name = "training_steps_keep_up_with_torch"
    row = {"cell": "lstm", "hidden": 64, "batch": 16, "threads": 1, "gates": 0.02}
    row |= {"us": {"l0gate": 1e3, "numpy": 3e3, "torch": 2e3}, "faster": {"torch": 2.0}}
    report = {"machine": {"processor": "a processor"}, "settings": {}, "rows": [row]}
    (tmp_path / f"{name}.json").write_text(json.dumps(report))
    blocks = "<!-- results: claims -->\n<!-- end -->\n## How we train\n"
    blocks += f"<!-- results: {name} -->\nstale\n<!-- end -->\nkept"
    page = pages.filled(blocks, tmp_path)
    assert (
        "| [training, 1 thread, beside torch](#how-we-train) | 2.00 | at least 0.9 | yes |" in page
    )
    assert "| lstm | 64 | 16 | 1 | 1.00 | 3.00 | 2.00 | 2.00 | 2.00 |" in page
    assert "a processor" in page
    assert "stale" not in page
    assert page.endswith("kept")
    assert pages.filled(page, tmp_path) == page
    load(name).plot(tmp_path / "picture.png", report)
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_page_on_speed_is_what_the_results_say(load: Any) -> None:
    pages = load("pages")
    text = pages.PAGE.read_text(encoding="utf-8")
    assert pages.filled(text, pages.RESULTS) == text
