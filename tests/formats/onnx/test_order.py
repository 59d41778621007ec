"""The order of gate blocks."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.formats._onnx.order import OPERATORS, from_onnx, to_onnx
from l0gate.formats.layers import BLOCKS


@pytest.mark.parametrize("cell", OPERATORS)
def test_there_and_back(cell: str) -> None:
    array = np.arange(2 * BLOCKS[cell])
    assert from_onnx(cell, to_onnx(cell, array)).tolist() == array.tolist()


def test_a_gru_exchanges_reset_and_update() -> None:
    assert to_onnx("gru", np.array(["r", "z", "n"])).tolist() == ["z", "r", "n"]
