"""The classifier that stands for a user's Keras file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import modules_of

import l0gate


@pytest.fixture
def motion() -> Iterator[Any]:
    with modules_of("examples/microcontroller") as load:
        yield load("motion")


def test_who_runs_shakes_more(motion: Any) -> None:
    x, movement = motion.readings(np.random.default_rng(0), 20, 500)
    assert x.shape == (20, 500, 3)
    size = np.linalg.norm(x, axis=-1)
    spread = [size[movement == kind].std() for kind in range(3)]
    assert spread == sorted(spread)
    assert abs(size[movement == 0].mean() - 1) < 0.05  # at rest there is gravity alone


def test_the_file_holds_the_model(motion: Any, tmp_path: Path) -> None:
    model = motion.train(2)
    motion.write(model, str(tmp_path / "motion.keras"))
    x, _ = motion.readings(np.random.default_rng(0), 3, 50)
    y, _ = l0gate.import_(tmp_path / "motion.keras")(x)
    expected = torch.softmax(model(torch.from_numpy(x)), -1).detach()
    np.testing.assert_allclose(y, expected, atol=1e-5)
