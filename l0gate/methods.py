"""Other ways to choose the neurons that stay, for comparison with hard-concrete gates.

A `Method` scores neurons; the cut to the budget, shrinking, certificate and report are those of the
gates. Give one, or its name, to `Pruner(method=...)`, `l0gate.gate(method=...)` or
`l0gate train --method`. Every neuron is open until its method closes it.

A distribution adds methods through an entry point in the group `l0gate` whose module implements

    @l0gate.hookimpl
    def l0gate_methods():
        return [{"name": "saliency", "factory": "my_package:Saliency"}]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters, zeros
from l0gate._errors import check
from l0gate._hooks import hookimpl
from l0gate.layout.fold import along, gather, group_norms, spread
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension

__all__ = ["GeometricMedian", "GroupLasso", "Magnitude", "Method", "Random"]
_TINY = 1e-12  # under the root, where a group of zeros has no slope


class Method:
    """Scores neurons, may add a penalty to the loss, and may close neurons gradually.

    >>> from l0gate import Budget, Layout, Pruner
    >>> class First(Method):
    ...     name = "first"
    ...     def scores(self, layout, parameters, backend):
    ...         return {a: -np.arange(n) for a, n in layout.solve(parameters).items()}
    >>> layout = Layout({"w": "h <- _", "v": "_ <- h"})
    >>> parameters = {"w": np.ones((4, 3)), "v": np.ones((2, 4))}
    >>> pruner = Pruner(layout, Budget(parameters=0.5), method=First())
    >>> state = pruner.select(pruner.init(parameters), parameters)
    >>> pruner.kept(state)["h"]
    array([0, 1])
    """

    name = ""

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> Mapping[str, np.ndarray]:
        """For every axis, a number for each neuron (n,), on the host: the highest stay.

        Neurons of different axes compete for one budget, so scores should compare across axes.
        """
        raise NotImplementedError

    def penalty(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> Array | None:
        """What to add to the task loss until the neurons are chosen: a scalar, or None.

        `axes` are those that may lose neurons.
        """
        return None

    def penalty_gradient(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> dict[str, Array]:
        """The gradient of `penalty` by parameter, where there is no autodiff."""
        return {}

    def share(self, progress: float) -> float:
        """How far the cut has come, from 0 (nothing closed) to 1 (the budget), at a `progress`
        between 0 and 1, where the neurons are chosen for good."""
        return 0.0

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class Magnitude(Method):
    """The Euclidean norm of all weights of a neuron, over the mean norm of its axis.

    One cut, with training after it; with `gradual`, neurons close one after the other on the way,
    by the cubic schedule of Zhu and Gupta (arXiv 1710.01878).
    """

    name = "magnitude"

    def __init__(self, gradual: bool = False) -> None:
        check(isinstance(gradual, bool), f"`gradual` is {gradual!r}; it must be True or False")
        self.gradual = gradual

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        return _over_mean(group_norms(layout, parameters, backend))

    def share(self, progress: float) -> float:
        return 1.0 - (1.0 - min(progress, 1.0)) ** 3 if self.gradual else 0.0


class GroupLasso(Magnitude):
    """Intrinsic sparse structures (Wen et al., ICLR 2018, arXiv 1709.05027).

    Until the neurons are chosen, `strength` times the sum of all neurons' norms is added to the
    loss: it drives whole neurons to zero. A neuron owns what the layout gives it; a weight between
    two neurons belongs to both. Those with the largest norms stay.
    """

    name = "iss"

    def __init__(self, strength: float = 1e-3) -> None:
        super().__init__()
        check(
            isinstance(strength, (int, float)) and 0 <= strength < math.inf,
            f"`strength` is {strength!r}; it must be a number of at least 0",
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
            slope = 0.0 * value
            for i, dimension in enumerate(pattern.dimensions):
                if dimension.axes:
                    each = spread(dimension, inverse, backend, fixed=0.0)
                    each = backend.cast(each, backend.dtype(value))
                    slope = slope + value * along(backend, each, i, len(pattern.dimensions))
            return slope

        slopes = layout.map(parameters, change, backend)
        return {name: slopes[name] for name in layout.patterns}


class GeometricMedian(Method):
    """The distance of a neuron from the others of its axis: near the median, it is replaceable.

    He et al., "Filter pruning via geometric median", CVPR 2019: the sum over all others of the
    Euclidean distance between the weights of both, here over its mean in the axis.
    """

    name = "geometric_median"

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        sizes = layout.solve(parameters)
        squares = {axis: np.zeros((size, size)) for axis, size in sizes.items()}
        for dimension, i, value in _dimensions(layout, parameters):
            host = np.moveaxis(backend.to_numpy(value).astype(np.float64), i, 0)
            rows, start = host.reshape(len(host), -1), 0
            for block in dimension.blocks:
                size = 1 if block.axis is None else sizes[block.axis]
                stop = start + block.outer * size * block.inner
                if block.axis is not None:
                    own = rows[start:stop].reshape(block.outer, size, -1)
                    for part in own:
                        products = part @ part.T
                        lengths = np.diag(products)
                        squares[block.axis] += lengths[:, None] + lengths - 2.0 * products
                start = stop
        distances = {a: np.sqrt(np.maximum(s, 0.0)).sum(axis=1) for a, s in squares.items()}
        return _over_mean(distances)


class Random(Method):
    """Neurons at random: what any criterion must beat."""

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


@hookimpl
def l0gate_methods() -> list[dict[str, Any]]:
    """Descriptors of the built-in methods."""
    methods = (Magnitude, GroupLasso, GeometricMedian, Random)
    found = [{"name": m.name, "factory": f"{__name__}:{m.__name__}"} for m in methods]
    return [*found, {"name": "gradual_magnitude", "factory": lambda: Magnitude(gradual=True)}]


def _over_mean(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {axis: v / (v.mean() or 1.0) for axis, v in values.items()}


def _dimensions(layout: Layout, parameters: Parameters) -> Iterator[tuple[Dimension, int, Array]]:
    """Every dimension that runs over an axis, where it stands in its array, and the array."""
    for _, pattern, _, value in layout.slices(parameters):
        for i, dimension in enumerate(pattern.dimensions):
            if dimension.axes:
                yield dimension, i, value


def _norms(layout: Layout, parameters: Parameters, backend: Backend) -> dict[str, Array]:
    """Per axis, the norm of every neuron's weights; an entry between two of its neurons, as in
    `h <- h`, belongs to both."""
    xp, sizes = backend.xp, layout.solve(parameters)
    like = layout.slices(parameters)[0][3]
    contributions = []
    for dimension, i, value in _dimensions(layout, parameters):
        squares = value * value
        for j in reversed(range(len(value.shape))):
            if j != i:
                squares = xp.sum(squares, axis=j)
        contributions.append((dimension, squares))
    zero = {axis: zeros(backend, (size,), like) for axis, size in sizes.items()}
    sums = gather(layout, zero, contributions, backend)
    return {axis: xp.sqrt(values + _TINY) for axis, values in sums.items()}
