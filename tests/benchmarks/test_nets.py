"""The arithmetic of a net."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_multiply_adds_are_the_weights_of_the_matrices(load: Any, cell: str) -> None:
    spec = load("_nets").Spec(cell, 3, (5, 4))
    sizes = [array.size for array in spec.parameters().values() if array.ndim == 2]
    assert spec.multiply_adds == sum(sizes)
