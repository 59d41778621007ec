"""Group lasso on all weights of a neuron (ISS): a penalty that drives whole neurons to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters, zeros
from l0gate._errors import check
from l0gate.layout.fold import along, gather, group_norms, spread
from l0gate.layout.layout import Layout
from l0gate.methods.magnitude import Magnitude

_TINY = 1e-12  # added under the square root, which has no gradient at 0


class GroupLasso(Magnitude):
    """Group lasso, known for LSTMs as intrinsic sparse structures (ISS).

    Until the neurons are chosen, `strength` times the sum of all neurons' weight norms is added to
    the loss, which drives all weights of a neuron to zero together. A weight between two neurons
    belongs to both. The neurons with the largest norms are kept (Wen et al., ICLR 2018, arXiv
    1709.05027).
    """

    name = "iss"

    def __init__(self, strength: float = 1e-3) -> None:
        super().__init__()
        check(
            isinstance(strength, (int, float)) and 0 <= strength < math.inf,
            f"`strength` is {strength!r}; it must be a finite number of at least 0",
        )
        self.strength = strength

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        return group_norms(layout, parameters, backend)

    def penalty(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> Array:
        norms = _norms(layout, parameters, backend)
        total: Array = sum(backend.xp.sum(norms[axis]) for axis in axes)
        return self.strength * total

    def penalty_gradient(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> dict[str, Array]:
        norms = _norms(layout, parameters, backend)
        inverse = {a: (self.strength if a in axes else 0.0) / norm for a, norm in norms.items()}

        def change(name: str, pattern: Any, value: Array) -> Array:
            gradient = 0.0 * value
            for i, dimension in enumerate(pattern.dimensions):
                if dimension.axes:
                    each = spread(dimension, inverse, backend, fixed=0.0)
                    each = backend.cast(each, backend.dtype(value))
                    gradient = gradient + value * along(backend, each, i, len(pattern.dimensions))
            return gradient

        gradients = layout.map(parameters, change, backend)
        return {name: gradients[name] for name in layout.patterns}


def _norms(layout: Layout, parameters: Parameters, backend: Backend) -> dict[str, Array]:
    """Per axis, the norm (n,) of each neuron's weights. A weight between two neurons of one axis,
    as in `h <- h`, belongs to both."""
    xp, sizes = backend.xp, layout.solve(parameters)
    like = layout.slices(parameters)[0][3]
    contributions = []
    for dimension, i, value in layout.axis_dimensions(parameters):
        squares = value * value
        for j in reversed(range(len(value.shape))):
            if j != i:
                squares = xp.sum(squares, axis=j)
        contributions.append((dimension, squares))
    zero = {axis: zeros(backend, (size,), like) for axis, size in sizes.items()}
    sums = gather(layout, zero, contributions, backend)
    return {axis: xp.sqrt(values + _TINY) for axis, values in sums.items()}
