"""The grid, and parts of it."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pytest


def test_the_grid_leaves_out_by_arithmetic_alone(load: Any) -> None:
    grid = load("faster_than_onnxruntime_and_torch")
    spec = load("_nets").Spec
    full, quick = list(grid.shapes(False, {})), list(grid.shapes(True, {}))
    assert all(point in full for point in quick)
    costs = [
        spec(p["cell"], p["input"], (p["hidden"],)).multiply_adds * p["batch"] * p["length"]
        for p in full
    ]
    assert max(costs) <= grid.MULTIPLY_ADDS
    every = math.prod(len(values) for values in grid.GRID.values())
    assert len(full) < every
    only = list(grid.shapes(False, {"hidden": ("8", "20"), "batch": ("1",)}))
    assert {(point["hidden"], point["batch"]) for point in only} == {(8, 1), (20, 1)}


def test_parts_of_the_grid_are_named(load: Any) -> None:
    only = load("faster_than_onnxruntime_and_torch")._only
    assert only("hidden=8,20") == ("hidden", ("8", "20"))
    for wrong in ("hidden", "depth=2", "batch="):
        with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=VALUE"):
            only(wrong)
