"""The loop in C computes what the net computes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.usefixtures("one_thread")
def test_the_loop_in_c_agrees(load: Any, tmp_path: Path) -> None:
    if not os.environ.get("CI") and not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("there is no C compiler")
    streaming = load("streaming_keeps_up_with_a_c_loop")
    library = streaming.compiled(str(tmp_path))
    smallest = np.float32(1e-45)
    assert smallest * np.float32(1) > 0  # -ffast-math has not reached the rest of the process
    for cell in ("lstm", "gru"):
        spec = load("_nets").Spec(cell, 3, (5,))
        loop = streaming.CLoop(library, spec, spec.parameters())
        x = spec.x(6, 1)
        expected, _ = spec.net().apply(spec.parameters(), x, engine="numpy")
        y = np.zeros((6, 5), np.float32)
        loop.run(6, x[:, 0], y)()
        np.testing.assert_allclose(y, expected[:, 0], rtol=1e-4, atol=1e-6)
