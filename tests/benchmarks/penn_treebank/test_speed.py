"""Which nets are timed."""

from __future__ import annotations

from typing import Any

import pytest
from penn_treebank_rows import row


def test_speeds_are_of_the_pruned_sizes(load: Any) -> None:
    speed = load("speed")
    made = [
        row("small", "dense", (20, 20, 20), 1.0),
        row("small", "l0", (9, 8, 7), 1.0),
        row("small", "iss", (9, 8, 7), 1.0),
        row("small", "direct", (3, 3, 3), 1.0),
    ]
    assert speed.pairs(made) == [((20, 20, 20), (9, 8, 7))]
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    found = speed.measured((20, 20, 20), (9, 8, 7), seconds=0.0)
    assert set(found) == {"dense", "small", "batch 1", "batch 10", "batch 20"}
    assert set(found["batch 10"]["faster"]) == set(speed.ENGINES)
