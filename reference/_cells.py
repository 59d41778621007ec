"""LSTM and GRU over a whole sequence, one layer and one direction, in plain NumPy.

A *scan* runs one layer in one direction. It receives the input pre-activations `gx` of the whole
sequence, computed outside as one matrix product, and adds the recurrent part step by step.
`_jit.py` holds compiled scans with the same signatures and results.

Shapes: T time steps, B sequences, H hidden neurons. Arrays are time first, (T, B, ...). Gate blocks
are ordered as in PyTorch: i, f, g, o for the LSTM; r, z, n for the GRU.

`lengths` (B,), each 0..T, gives every sequence its own number of steps, as in a packed sequence:
y is 0 at t >= lengths[b], the returned state is the one after the sequence's own last step, and
a reverse scan starts at t = lengths[b] - 1. The state simply waits through the padding.

`gate` (H,) multiplies the hidden neurons where `weight_hh` reads them and nowhere else: the carry,
the products, y and the returned states are ungated. It equals a scan with `weight_hh * gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# As `numpy.typing.NDArray[Any]`, which takes a millisecond to import.
Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
Tape = tuple[Array, ...]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), through tanh: no overflow, and the dtype is kept.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return 0.5 * np.tanh(0.5 * x) + 0.5


def lstm_scan(
    gx: Array,
    weight_hh: Array,
    h0: Array,
    c0: Array,
    lengths: Array | None = None,
    reverse: bool = False,
    *,
    gate: Array | None = None,
) -> tuple[Array, Array, Array, Tape]:
    """Run an LSTM (Hochreiter and Schmidhuber, 1997; forget gate of Gers et al., 2000).

        i, f, o = sigmoid(gx + W_hh h)      g = tanh(gx + W_hh h)
        c' = f c + i g                      h' = o tanh(c')

    gx (T, B, 4H) contains both biases. weight_hh (4H, H); h0, c0 (B, H).
    Returns y (T, B, H), the last h and c (B, H), and the tape for `lstm_scan_backward`: activated
    gates (T, B, 4H), cell states (T, B, H) and their tanh. No argument is modified.

    >>> gx, weight_hh, zero = np.zeros((3, 1, 8)), np.zeros((8, 2)), np.zeros((1, 2))
    >>> y, h, c, _ = lstm_scan(gx, weight_hh, zero, np.ones((1, 2)))
    >>> c  # every gate is a half, and g is 0
    array([[0.125, 0.125]])
    """
    T, B, H = *gx.shape[:2], h0.shape[1]
    y, cells, tanh_cells = (np.zeros((T, B, H), gx.dtype) for _ in range(3))
    gates = np.empty_like(gx, order="C")
    h, c = h0.copy(), c0.copy()
    for t, live in _steps(T, lengths, reverse):
        a = gx[t] + _gated(h, gate) @ weight_hh.T
        gates[t] = sigmoid(a)
        gates[t, :, 2 * H : 3 * H] = np.tanh(a[:, 2 * H : 3 * H])
        i, f, g, o = np.split(gates[t], 4, axis=1)
        c_next = f * c + i * g
        tanh_cells[t] = np.tanh(c_next)
        h_next = o * tanh_cells[t]
        if live is None:
            y[t], h, c = h_next, h_next, c_next
        else:
            y[t] = np.where(live, h_next, 0)
            h, c = np.where(live, h_next, h), np.where(live, c_next, c)
        cells[t] = c
    return y, h, c, (gates, cells, tanh_cells)


def lstm_scan_backward(
    dy: Array,
    dh: Array,
    dc: Array,
    weight_hh: Array,
    y: Array,
    h0: Array,
    c0: Array,
    tape: Tape,
    lengths: Array | None = None,
    reverse: bool = False,
    *,
    gate: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Backward through time of `lstm_scan`.

    dy (T, B, H) and dh, dc (B, H) are the gradients of y and of the returned state; the values
    of dy in the padding are ignored. Returns dgx (T, B, 4H), zero in the padding, and dh0, dc0
    (B, H). The gradient of `weight_hh` is the sum of dgx^T h_prev: see `previous_states`.
    """
    gates, cells, tanh_cells = tape
    T = len(y)
    c_prev = previous_states(cells, c0, None, reverse)
    dgx = np.empty_like(gates)
    for t, live in reversed(list(_steps(T, lengths, reverse))):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        dh_next = dh + dy[t]
        dc_next = dc + dh_next * o * (1 - tanh_cells[t] ** 2)
        di, df, dg = dc_next * g, dc_next * c_prev[t], dc_next * i
        do = dh_next * tanh_cells[t]
        da = np.concatenate(
            (di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)), axis=1
        )
        dh_prev = _gated(da @ weight_hh, gate)
        if live is None:
            dgx[t], dh, dc = da, dh_prev, dc_next * f
        else:
            dgx[t] = np.where(live, da, 0)
            dh, dc = np.where(live, dh_prev, dh), np.where(live, dc_next * f, dc)
    return dgx, dh.copy(), dc.copy()


def gru_scan(
    gx: Array,
    weight_hh: Array,
    bias_hn: Array,
    h0: Array,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
    *,
    gate: Array | None = None,
) -> tuple[Array, Array, Tape]:
    """Run a GRU.

        r, z = sigmoid(gx + W_hh h)                 h' = (1 - z) n + z h
        n = tanh(gx_n + r (W_hn h + b_hn))          with reset_after (PyTorch, cuDNN)
        n = tanh(gx_n + W_hn (r h))                 without (Cho et al., arXiv 1406.1078)

    gx (T, B, 3H) contains `bias_ih` and the r and z blocks of `bias_hh`; the n block of `bias_hh`
    is `bias_hn` (H,) with reset_after, and otherwise belongs to gx (then `bias_hn` is not read).
    weight_hh (3H, H), h0 (B, H). Returns y (T, B, H), the last h (B, H), and the tape for
    `gru_scan_backward`, whose first entry is the activated gates r, z, n (T, B, 3H) and whose
    second one, with reset_after, is W_hn h + b_hn (T, B, H). No argument is modified.

    >>> gx, weight_hh, zero = np.zeros((3, 1, 6)), np.zeros((6, 2)), np.zeros(2)
    >>> y, h, _ = gru_scan(gx, weight_hh, zero, np.ones((1, 2)))
    >>> h  # every gate is a half, and n is 0
    array([[0.125, 0.125]])
    """
    T, B, H = *gx.shape[:2], h0.shape[1]
    y = np.zeros((T, B, H), gx.dtype)
    hn = np.zeros((T if reset_after else 0, B, H), gx.dtype)
    gates = np.empty_like(gx, order="C")
    weight_rz, weight_n = weight_hh[: 2 * H], weight_hh[2 * H :]
    h = h0.copy()
    for t, live in _steps(T, lengths, reverse):
        read = _gated(h, gate)
        gates[t, :, : 2 * H] = sigmoid(gx[t, :, : 2 * H] + read @ weight_rz.T)
        r, z, n = np.split(gates[t], 3, axis=1)
        if reset_after:
            hn[t] = read @ weight_n.T + bias_hn
            n[:] = np.tanh(gx[t, :, 2 * H :] + r * hn[t])
        else:
            n[:] = np.tanh(gx[t, :, 2 * H :] + (r * read) @ weight_n.T)
        h_next = (1 - z) * n + z * h
        y[t] = h_next if live is None else np.where(live, h_next, 0)
        h = h_next if live is None else np.where(live, h_next, h)
    return y, h, (gates, hn) if reset_after else (gates,)


def gru_scan_backward(
    dy: Array,
    dh: Array,
    weight_hh: Array,
    bias_hn: Array,
    y: Array,
    h0: Array,
    tape: Tape,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
    *,
    gate: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Backward through time of `gru_scan`.

    Returns dgx (T, B, 3H), dgh (T, B, 3H) and dh0 (B, H). dgh is the gradient of the recurrent
    pre-activations, so that the gradient of `bias_hh` is its sum. With reset_after its n block is
    that of dgx times r, and `weight_hh` has the gradient sum of dgh^T h_prev. Without, dgh is dgx
    and the n block of `weight_hh` reads r * h_prev instead of h_prev: r is tape[0][..., :H].
    Both are zero in the padding.
    """
    gates = tape[0]
    T, H = y.shape[0], y.shape[2]
    weight_rz, weight_n = weight_hh[: 2 * H], weight_hh[2 * H :]
    h_prev = previous_states(y, h0, lengths, reverse)
    dgx = np.empty_like(gates)
    dgh = np.empty_like(gates) if reset_after else dgx
    for t, live in reversed(list(_steps(T, lengths, reverse))):
        r, z, n = np.split(gates[t], 3, axis=1)
        dh_next = dh + dy[t]
        dan = dh_next * (1 - z) * (1 - n**2)
        daz = dh_next * (h_prev[t] - n) * z * (1 - z)
        dh_prev = dh_next * z
        if reset_after:
            dr, dhn = dan * tape[1][t], dan * r
            dread = dhn @ weight_n
        else:
            drh = _gated(dan @ weight_n, gate)
            dr, dhn = drh * h_prev[t], dan
            dh_prev, dread = dh_prev + drh * r, 0
        darz = np.concatenate((dr * r * (1 - r), daz), axis=1)
        dh_prev = dh_prev + _gated(dread + darz @ weight_rz, gate)
        da, dah = np.concatenate((darz, dan), axis=1), np.concatenate((darz, dhn), axis=1)
        if live is None:
            dgx[t], dgh[t], dh = da, dah, dh_prev
        else:
            dgx[t], dgh[t] = np.where(live, da, 0), np.where(live, dah, 0)
            dh = np.where(live, dh_prev, dh)
    return dgx, dgh, dh.copy()


def previous_states(
    states: Array, initial: Array, lengths: Array | None = None, reverse: bool = False
) -> Array:
    """The states (T, B, H) that each step of a scan starts from.

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


def _steps(T: int, lengths: Array | None, reverse: bool) -> Iterator[tuple[int, Array | None]]:
    """The time steps in the order of the scan, each with the sequences (B, 1) that take it."""
    for t in reversed(range(T)) if reverse else range(T):
        yield t, None if lengths is None else (t < lengths)[:, None]


def _gated(x: Array, gate: Array | None) -> Array:
    return x if gate is None else x * gate
