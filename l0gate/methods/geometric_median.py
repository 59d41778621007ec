"""Choosing neurons by their distance from the other neurons of their axis."""

from __future__ import annotations

import numpy as np

from l0gate._backend import Backend, Parameters
from l0gate._method import Method
from l0gate.layout.layout import Layout
from l0gate.methods.magnitude import over_mean


class GeometricMedian(Method):
    """Scores a neuron by its distance from the other neurons of its axis.

    The score is the sum of the Euclidean distances between its weights and those of every other
    neuron, divided by the mean of these sums in the axis. A neuron near the geometric median has a
    low score: the others can replace it (He et al., "Filter pruning via geometric median", CVPR
    2019).
    """

    name = "geometric_median"

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        sizes = layout.solve(parameters)
        squares = {axis: np.zeros((size, size)) for axis, size in sizes.items()}
        for dimension, i, value in layout.axis_dimensions(parameters):
            host = np.moveaxis(backend.to_numpy(value).astype(np.float64), i, 0)
            rows, start = host.reshape(len(host), -1), 0
            for block in dimension.blocks:
                size = 1 if block.axis is None else sizes[block.axis]
                stop = start + block.outer * size * block.inner
                if block.axis is not None:
                    repeats = rows[start:stop].reshape(block.outer, size, -1)
                    for part in repeats:
                        products = part @ part.T
                        lengths = np.diag(products)
                        squares[block.axis] += lengths[:, None] + lengths - 2.0 * products
                start = stop
        distances = {a: np.sqrt(np.maximum(s, 0.0)).sum(axis=1) for a, s in squares.items()}
        return over_mean(distances)
