"""The optimizer, against its published formulas."""

from __future__ import annotations

import math

import numpy as np
from cli_runs import NUMPY

from l0gate.cli._adam import Adam


def test_adam_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=3)}
    adam = Adam.start(NUMPY, arrays)
    assert adam.steps == 0
    first, second, wanted = np.zeros(3), np.zeros(3), arrays["w"].copy()
    for t in range(1, 4):
        slope = rng.normal(size=3)
        adam.step(NUMPY, arrays, {"w": slope}, 0.1)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        # The faster order of computation at the end of section 2.
        rate = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        wanted = wanted - rate * first / (np.sqrt(second) + 1e-8)
    assert adam.steps == 3
    np.testing.assert_allclose(arrays["w"], wanted, rtol=1e-12)
    still = {"w": np.ones(1)}
    Adam.start(NUMPY, still).step(NUMPY, still, {"w": np.zeros(1)}, 0.1)
    assert still["w"] == 1.0  # nothing is divided by 0
