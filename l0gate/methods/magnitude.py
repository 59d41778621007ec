"""Choosing neurons by the magnitude of their weights, at once or gradually."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from l0gate._backend import Backend, Parameters
from l0gate._errors import check
from l0gate._method import Method
from l0gate.layout.fold import group_norms
from l0gate.layout.layout import Layout


class Magnitude(Method):
    """Scores a neuron by the Euclidean norm of its weights, divided by the mean norm of its axis.

    All neurons are removed at once, at `Budget.settle`. With `gradual=True` they are removed step
    by step until then, by the cubic schedule of Zhu and Gupta (arXiv 1710.01878).
    """

    name = "magnitude"

    def __init__(self, gradual: bool = False) -> None:
        check(isinstance(gradual, bool), f"`gradual` is {gradual!r}; it must be True or False")
        self.gradual = gradual

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        return over_mean(group_norms(layout, parameters, backend))

    def share(self, progress: float) -> float:
        return 1.0 - (1.0 - min(progress, 1.0)) ** 3 if self.gradual else 0.0


def over_mean(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values (n,) of every axis, divided by their mean so that axes can be compared."""
    return {axis: v / (v.mean() or 1.0) for axis, v in values.items()}
