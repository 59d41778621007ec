"""The second moments of the neurons of every axis, as their readers see them.

They are what `Pruner.reconstruct` needs: for an axis of n neurons h (n,), the sum of
[h, 1] [h, 1]^T over all positions at which a parameter reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate.reference._net import Net
from l0gate.reference._products import Gathered, Input, rows
from l0gate.reference._scan import Array, previous_states


def second_moments(
    net: Net,
    parameters: Mapping[str, Array],
    x: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    engine: str = "auto",
) -> dict[tuple[str, str], Array]:
    """The sums of [h, 1] [h, 1]^T (n + 1, n + 1) by (axis, parameter that reads it), in float64.

    The last corner is the number of positions, so the sums over several batches may be added.
    Arguments are those of `Net.forward`. Recurrent weights read the state before each step, also
    the initial one. Positions beyond `lengths` do not count.

    >>> net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "out"}])
    >>> sizes = {"rnn": 3, "out": 2}
    >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes=sizes)
    >>> moments = second_moments(net, parameters, np.ones((5, 4, 2)))
    >>> list(moments)
    [('x', 'rnn.weight_ih_l0'), ('h0', 'rnn.weight_hh_l0'), ('h0', 'out.weight')]
    >>> moments["x", "rnn.weight_ih_l0"].tolist()
    [[20.0, 20.0, 20.0], [20.0, 20.0, 20.0], [20.0, 20.0, 20.0]]
    """
    _, _, tape = net.forward(parameters, x, state, lengths=lengths, engine=engine)
    run, (steps, batch) = tape.run, tape.shape[:2]
    counted = np.ones((steps, batch), dtype=bool)
    if lengths is not None:
        counted = np.arange(steps)[:, None] < np.asarray(lengths)
    found: dict[tuple[str, str], Array] = {}
    for layer, own in zip(net.chain, tape.layers, strict=True):
        if not layer.directions:
            if layer.reads:
                _split(found, layer.reads, layer.names[0], run.axis_sizes, _sums(own, counted))
            continue
        read, records = own
        sums = _sums(read, counted) if layer.reads else None
        for end, record in zip(layer.directions, records, strict=True):
            if sums is not None:
                _split(found, layer.reads, end.weight_ih, run.axis_sizes, sums)
            initial = record.initial[0] if layer.states == 2 else record.initial
            before = previous_states(record.y, initial, run.lengths, end.reverse)
            found[end.axes[0], end.weight_hh] = _sums(before, counted)
    return found


def _sums(x: Input, counted: Array) -> Array:
    """The sum of [x, 1] [x, 1]^T over the positions that count, for x (T, B, n)."""
    if isinstance(x, Gathered):
        times = np.bincount(x.tokens[counted], minlength=len(x.table))
        table = _with_ones(x.table)
        of_table: Array = (table.T * times) @ table
        return of_table
    h = _with_ones(rows(x)[counted.ravel()])
    found: Array = h.T @ h
    return found


def _with_ones(h: Array) -> Array:
    return np.concatenate([h, np.ones((len(h), 1))], axis=1, dtype=np.float64)


def _split(
    found: dict[tuple[str, str], Array],
    axes: tuple[str, ...],
    reader: str,
    sizes: Mapping[str, int],
    sums: Array,
) -> None:
    """Add to `found` the sums of every axis, from those of the axes' concatenation."""
    start = 0
    for axis in axes:
        stop = start + sizes[axis]
        index = np.r_[start:stop, len(sums) - 1]
        found[axis, reader] = sums[np.ix_(index, index)]
        start = stop
