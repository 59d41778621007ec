"""The LSTM over a whole sequence, forward and backward, in plain NumPy.

A scan runs one layer in one direction. `_scan.py` defines the shapes, `lengths` and `gate`. The
compiled versions are in `compiled/training/lstm.py`. They have the same arguments except `gate`,
and store a different tape.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference._scan import Array, Tape, gated, previous_states, sigmoid, time_steps


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

        i = sigmoid(gx_i + W_hi h)      f = sigmoid(gx_f + W_hf h)      g = tanh(gx_g + W_hg h)
        o = sigmoid(gx_o + W_ho h)      c' = f c + i g                  h' = o tanh(c')

    Products of vectors are elementwise. gx (T, B, 4H) holds the input pre-activations and contains
    both biases. weight_hh (4H, H); h0, c0 (B, H).
    Returns y (T, B, H), the last h and c (B, H), and the tape for `lstm_scan_backward`: activated
    gates (T, B, 4H), cell states (T, B, H) and their tanh. No argument is modified.

    >>> gx, weight_hh, zero = np.zeros((3, 1, 8)), np.zeros((8, 2)), np.zeros((1, 2))
    >>> y, h, c, _ = lstm_scan(gx, weight_hh, zero, np.ones((1, 2)))
    >>> c  # every gate is 1/2, and g is 0
    array([[0.125, 0.125]])
    """
    T, B, H = *gx.shape[:2], h0.shape[1]
    y, cells, tanh_cells = (np.zeros((T, B, H), gx.dtype) for _ in range(3))
    gates = np.empty_like(gx, order="C")
    h, c = h0.copy(), c0.copy()
    for t, active in time_steps(T, lengths, reverse):
        a = gx[t] + gated(h, gate) @ weight_hh.T
        gates[t] = sigmoid(a)  # block g is replaced by tanh
        gates[t, :, 2 * H : 3 * H] = np.tanh(a[:, 2 * H : 3 * H])
        i, f, g, o = np.split(gates[t], 4, axis=1)
        c_next = f * c + i * g
        tanh_cells[t] = np.tanh(c_next)
        h_next = o * tanh_cells[t]
        if active is None:
            y[t], h, c = h_next, h_next, c_next
        else:
            y[t] = np.where(active, h_next, 0)
            h, c = np.where(active, h_next, h), np.where(active, c_next, c)
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
    """The gradients of `lstm_scan`, by backpropagation through time.

    dy (T, B, H) and dh, dc (B, H) are the gradients of y and of the returned state; the values
    of dy in the padding are ignored. Returns dgx (T, B, 4H), zero in the padding, and dh0, dc0
    (B, H). The gradient of `weight_hh` is the sum of dgx^T h_prev, where h_prev is the state
    before the step: see `previous_states`.
    """
    gates, cells, tanh_cells = tape
    T = len(y)
    # In the padding, cells repeats the state, so previous_states needs no lengths.
    c_prev = previous_states(cells, c0, None, reverse)
    dgx = np.empty_like(gates)
    for t, active in reversed(list(time_steps(T, lengths, reverse))):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        dh_next = dh + dy[t]
        dc_next = dc + dh_next * o * (1 - tanh_cells[t] ** 2)
        di, df, dg = dc_next * g, dc_next * c_prev[t], dc_next * i
        do = dh_next * tanh_cells[t]
        da = np.concatenate(
            (di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)), axis=1
        )
        dh_prev = gated(da @ weight_hh, gate)
        if active is None:
            dgx[t], dh, dc = da, dh_prev, dc_next * f
        else:
            dgx[t] = np.where(active, da, 0)
            dh, dc = np.where(active, dh_prev, dh), np.where(active, dc_next * f, dc)
    return dgx, dh.copy(), dc.copy()
