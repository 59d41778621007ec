"""Definitions and helpers of the LSTM and GRU scans.

A *scan* runs one layer in one direction over a whole sequence. Its input
is `gx`, the input pre-activations W_ih x + bias of all time steps, which the layer computes as one
matrix product. The scan adds the recurrent part W_hh h step by step.

Shapes: T time steps, B sequences, H hidden neurons. Arrays are time first, (T, B, ...). The gates
of a cell are stacked in PyTorch's order: i, f, g, o for the LSTM; r, z, n for the GRU.

`lengths` (B,), each 0..T, gives every sequence its own number of steps, as in a packed sequence:
y is 0 at t >= lengths[b], the returned state is the one after the sequence's own last step, and
a reverse scan starts at t = lengths[b] - 1. In the padding the state does not change.

`gate` (H,) multiplies h only in the product with `weight_hh`. The carried state, the elementwise
products, y and the returned states are ungated. The result is that of a scan with the matrix
`weight_hh * gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# The same type as `numpy.typing.NDArray[Any]`, whose import takes a millisecond.
Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
Tape = tuple[Array, ...]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), computed through tanh: nothing overflows, and the dtype is kept.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return 0.5 * np.tanh(0.5 * x) + 0.5


def time_steps(T: int, lengths: Array | None, reverse: bool) -> Iterator[tuple[int, Array | None]]:
    """The time steps t in the order of a scan, each with the mask (B, 1) of active sequences.

    A sequence is active while t < lengths[b]. Without `lengths` the mask is None.

    >>> steps = time_steps(2, np.array([2, 1]), reverse=True)
    >>> [(t, active.ravel().tolist()) for t, active in steps]
    [(1, [True, False]), (0, [True, True])]
    """
    for t in reversed(range(T)) if reverse else range(T):
        yield t, None if lengths is None else (t < lengths)[:, None]


def gated(x: Array, gate: Array | None) -> Array:
    """x (B, H) times the gate (H,) of its neurons; x itself where there is no gate."""
    return x if gate is None else x * gate


def previous_states(
    states: Array, initial: Array, lengths: Array | None = None, reverse: bool = False
) -> Array:
    """The state (T, B, H) that each step of a scan starts from.

    `states` (T, B, H) are the states after each step, `initial` (B, H) the one before the first.

    >>> previous_states(np.array([[[1.0]], [[2.0]]]), np.array([[9.0]])).ravel()
    array([9., 1.])
    """
    if reverse:
        previous = np.concatenate((states[1:], initial[None]))[: len(states)]
        if lengths is not None:
            (started,) = np.nonzero(lengths)
            previous[lengths[started] - 1, started] = initial[started]
        return previous
    return np.concatenate((initial[None], states[:-1]))[: len(states)]
