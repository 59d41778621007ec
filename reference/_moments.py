"""The second moments of the neurons of every axis, over the positions of a batch.

They are what `Pruner.reconstruct` needs: for an axis of n neurons h (n,), the mean of h h^T over
all positions at which it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate.reference._net import Net
from l0gate.reference._products import Gathered, Input, rows
from l0gate.reference._scan import Array


def second_moments(
    net: Net,
    parameters: Mapping[str, Array],
    x: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    engine: str = "auto",
) -> dict[str, Array]:
    """The second moments (n, n) of every axis of a net, in float64.

    Arguments are those of `Net.forward`. Hidden neurons are taken as the layer returns them; input
    features as the recurrent layer reads them. Positions beyond `lengths` do not count.

    >>> net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "out"}])
    >>> sizes = {"rnn": 3, "out": 2}
    >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes=sizes)
    >>> moments = second_moments(net, parameters, np.ones((5, 4, 2)))
    >>> moments["x"].tolist(), moments["h0"].shape
    ([[1.0, 1.0], [1.0, 1.0]], (3, 3))
    """
    _, _, tape = net.forward(parameters, x, state, lengths=lengths, engine=engine)
    steps, batch = tape.shape[:2]
    counted = np.ones((steps, batch), dtype=bool)
    if lengths is not None:
        counted = np.arange(steps)[:, None] < np.asarray(lengths)
    found: dict[str, Array] = {}
    for layer, own in zip(net.chain, tape.layers, strict=True):
        if not layer.directions:
            continue
        read, records = own
        if layer.reads and not set(layer.reads) <= set(found):
            _split(found, layer.reads, tape.run.axis_sizes, _moments(read, counted))
        for direction, record in zip(layer.directions, records, strict=True):
            (axis,) = direction.axes
            found[axis] = _moments(record.y, counted)
    return found


def _moments(x: Input, counted: Array) -> Array:
    """The mean of x x^T over the positions that count, for x (T, B, n)."""
    count = max(int(counted.sum()), 1)
    if isinstance(x, Gathered):
        times = np.bincount(x.tokens[counted], minlength=len(x.table))
        table = x.table.astype(np.float64)
        of_table: Array = (table.T * times) @ table / count
        return of_table
    h = rows(x)[counted.ravel()].astype(np.float64)
    found: Array = h.T @ h / count
    return found


def _split(
    found: dict[str, Array], axes: tuple[str, ...], sizes: Mapping[str, int], moments: Array
) -> None:
    """Add to `found` the moments of every axis, from those of the axes' concatenation.

    They are the diagonal blocks of the matrix `moments`.
    """
    start = 0
    for axis in axes:
        stop = start + sizes[axis]
        found.setdefault(axis, moments[start:stop, start:stop])
        start = stop
