"""Choosing neurons at random, as a baseline."""

from __future__ import annotations

import numpy as np

from l0gate._backend import Backend, Parameters
from l0gate._errors import check
from l0gate._method import Method
from l0gate.layout.layout import Layout


class Random(Method):
    """Scores neurons by random numbers. Every useful method must do better than this one."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        check(
            isinstance(seed, (int, np.integer)) and seed >= 0,
            f"`seed` is {seed!r}; it must be an int of at least 0",
        )
        self.seed = int(seed)

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        return {axis: rng.random(size) for axis, size in layout.solve(parameters).items()}
