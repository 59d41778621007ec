"""What all scripts have in common: examples that run, and limits that need results."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from scripts import ROOT

CLAIMS = (
    "faster_than_onnxruntime_and_torch",
    "streaming_keeps_up_with_a_c_loop",
    "c_header",
    "pruned_nets_are_faster_in_every_engine",
    "training_steps_keep_up_with_torch",
    "cost_stays_near_the_roofline",
    "import_costs_little_more_than_numpy",
)


SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_run(load: Any, name: str) -> None:
    assert doctest.testmod(load(name)).failed == 0


@pytest.mark.parametrize("name", CLAIMS)
def test_limits_without_results_are_not_met(load: Any, name: str) -> None:
    script = load(name)
    limits = script.limits({"rows": []})
    assert limits
    assert not any(limit.met for limit in limits)


def test_the_page_on_speed_has_a_block_for_every_claim(load: Any) -> None:
    text = load("pages").PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- results: {name} -->" in text for name in CLAIMS)
