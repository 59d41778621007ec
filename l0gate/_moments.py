"""Second moments of neurons as their readers see them, and what the readers weigh.

For an axis of n neurons h (n,), moments are either the mean of h h^T (n, n) over calibration data,
or the sum of [h, 1] [h, 1]^T (n + 1, n + 1). The latter also holds the sum of h, and in its last
corner the number of positions; so the sums of several batches may simply be added.

A key (axis, parameter) stands for the neurons as that parameter reads them; a key axis stands for
all of its readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters
from l0gate._errors import L0GateError, check
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension, Pattern

#: By (axis, parameter): moments (n, n) or, with the mean, (n + 1, n + 1) and 1 in the corner.
Moments = Mapping[tuple[str, str], np.ndarray]


class MomentSums:
    """Sums of [h, 1] [h, 1]^T for every axis and every parameter that reads it, in float64.

    >>> import l0gate
    >>> layout = Layout({"w": "h <- _", "v": "_ <- h"})
    >>> sums = MomentSums(layout, {"h": 2}, l0gate.get_backend("numpy"))
    >>> sums.add("v", np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> sums.found["h", "v"].tolist()
    [[10.0, 14.0, 4.0], [14.0, 20.0, 6.0], [4.0, 6.0, 2.0]]
    """

    def __init__(self, layout: Layout, sizes: Mapping[str, int], backend: Backend) -> None:
        self.layout, self.sizes, self.backend = layout, sizes, backend
        self.found: dict[tuple[str, str], np.ndarray] = {}

    def add(self, parameter: str, values: Array) -> None:
        """Add what a parameter reads: its last dimension is the one that the parameter reads."""
        pattern = self.layout.patterns[parameter]
        read = reading_dimension(pattern) if isinstance(pattern, Pattern) else None
        if read is None:
            return
        backend, xp = self.backend, self.backend.xp
        blocks = [(b, 1 if b.axis is None else self.sizes[b.axis]) for b in read[1].blocks]
        width = sum(block.outer * size * block.inner for block, size in blocks)
        if values.shape[-1] != width:  # another dimension than the one that the layout describes
            return
        start = 0
        for block, size in blocks:
            stop = start + block.outer * size * block.inner
            if block.axis is not None:
                part = xp.reshape(values[..., start:stop], (-1, size, block.inner))
                flat = [backend.cast(part[:, :, i], "float64") for i in range(block.inner)]
                for h in flat:
                    self._add((block.axis, parameter), h)
            start = stop

    def _add(self, key: tuple[str, str], h: Array) -> None:
        n = h.shape[1]
        own = np.empty((n + 1, n + 1))
        own[:n, :n] = self.backend.to_numpy(h.T @ h)
        own[:n, n] = own[n, :n] = self.backend.to_numpy(self.backend.xp.sum(h, axis=0))
        own[n, n] = h.shape[0]
        self.found[key] = self.found[key] + own if key in self.found else own


def reading_dimension(pattern: Pattern) -> tuple[int, Dimension] | None:
    """The dimension that reads neurons, with its position; None unless there is exactly one."""
    found = [(i, d) for i, d in enumerate(pattern.dimensions) if d.reads and d.axes]
    return found[0] if len(found) == 1 else None


def bias_of(layout: Layout, parameter: str) -> str | None:
    """The bias that is added to what a weight computes, by the names of both; None without one.

    Its name has "bias" where the weight's has "weight", and it runs over what the weight writes.

    >>> layout = Layout({"rnn.weight_hh": "(4 h) <- h", "rnn.bias_hh": "(4 h)"})
    >>> bias_of(layout, "rnn.weight_hh")
    'rnn.bias_hh'
    """
    prefix, dot, own = parameter.rpartition(".")
    name = prefix + dot + own.replace("weight", "bias")
    weight, bias = layout.patterns[parameter], layout.patterns.get(name)
    if name == parameter or not isinstance(weight, Pattern) or not isinstance(bias, Pattern):
        return None
    written = [d.blocks for d in weight.dimensions if not d.reads]
    same = bias.arrow is None and [d.blocks for d in bias.dimensions] == written
    return name if same and len(written) == 1 else None


def check_moments(
    moments: object, layout: Layout, sizes: Mapping[str, int]
) -> dict[tuple[str, str], np.ndarray]:
    """The moments for every reader of the given axes, in float64; others raise.

    A reader without moments of its own has those of the whole axis, or the mean over those of the
    axis's other readers.
    """
    check(isinstance(moments, Mapping), f"`moments` is {moments!r}; it must map axes to arrays")
    assert isinstance(moments, Mapping)
    own: dict[str, dict[str | None, np.ndarray]] = {}
    for key, given in moments.items():
        axis, reader = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        check(axis in sizes, f"`moments` names the axis {axis!r}; the layout has {tuple(sizes)}")
        readers = layout.readers(axis)
        check(
            reader is None or reader in readers,
            f"`moments` names the parameter {reader!r} as a reader of {axis!r}; its readers are"
            f" {', '.join(readers)}",
        )
        own.setdefault(axis, {})[reader] = _checked(f"`moments[{key!r}]`", given, sizes[axis])
    found = {}
    for axis, known in own.items():
        shared = known[None] if None in known else _mean(list(known.values()), sizes[axis])
        for reader in layout.readers(axis):
            found[axis, reader] = known.get(reader, shared)
    return found


def _mean(moments: list[np.ndarray], n: int) -> np.ndarray:
    """The mean of several moments; without means (n, n) if some are."""
    same = len({len(each) for each in moments}) == 1
    mean: np.ndarray = np.mean([each if same else each[:n, :n] for each in moments], axis=0)
    return mean


def _checked(what: str, given: Any, n: int) -> np.ndarray:
    try:
        array = np.array(given, dtype=float)
    except (TypeError, ValueError):
        raise L0GateError(f"{what} is {given!r}; it must be an array of numbers") from None
    check(
        array.shape in ((n, n), (n + 1, n + 1)),
        f"{what} has shape {array.shape}; the axis has {n} neurons, so it must be ({n}, {n}), or"
        f" ({n + 1}, {n + 1}) with a 1 appended to the neurons",
    )
    check(bool(np.isfinite(array).all()), f"{what} must be finite")
    scale = float(np.abs(array).max(initial=0.0))
    check(
        bool(np.allclose(array, array.T, rtol=1e-5, atol=1e-6 * scale)),
        f"{what} must be symmetric, as the mean of h h^T over positions is",
    )
    even: np.ndarray = (array + array.T) / 2
    if len(even) == n:
        return even
    check(even[n, n] > 0, f"{what} counts {even[n, n]} positions in its last corner")
    mean: np.ndarray = even / even[n, n]
    return mean


def centred(moments: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Covariances (n, n) and means (n,), from moments with a 1 appended."""
    mean = moments[n, :n]
    return moments[:n, :n] - np.outer(mean, mean), mean


def what_readers_lose(
    layout: Layout, parameters: Parameters, backend: Backend, moments: Moments
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Per axis, a pair (S, G) for every reader W: moments S (n, n) and G = W^T W (n, n).

    If the values of the neurons change by e, what W reads changes by e^T G e, squared. Where W has
    a bias, which can take the mean, S are covariances.
    """
    sizes = layout.solve(parameters)
    grams = reading_grams(layout, parameters, backend)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for (axis, reader), values in moments.items():
        n = sizes[axis]
        with_mean = len(values) > n and bias_of(layout, reader) is not None
        s = centred(values, n)[0] if with_mean else values[:n, :n]
        found.setdefault(axis, []).append((s, grams[axis, reader]))
    return found


def reading_grams(
    layout: Layout, parameters: Parameters, backend: Backend
) -> dict[tuple[str, str], np.ndarray]:
    """For every axis and every matrix W that reads it, W^T W (n, n), in float64."""
    sizes = layout.solve(parameters)
    found: dict[tuple[str, str], np.ndarray] = {}
    for name, pattern, _, value in layout.slices(parameters):
        for i, dimension in enumerate(pattern.dimensions):
            if not dimension.reads or not dimension.axes:
                continue
            host = np.moveaxis(backend.to_numpy(value).astype(np.float64), i, -1)
            host, start = host.reshape(-1, host.shape[-1]), 0
            for block in dimension.blocks:
                size = 1 if block.axis is None else sizes[block.axis]
                stop = start + block.outer * size * block.inner
                if block.axis is not None:
                    part = host[:, start:stop].reshape(len(host), block.outer, size, block.inner)
                    columns = np.moveaxis(part, 2, -1).reshape(-1, size)
                    key = (block.axis, name)
                    found[key] = found.get(key, 0.0) + columns.T @ columns
                start = stop
    return found
