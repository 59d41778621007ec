"""The GRU over a whole sequence, forward and backward, in plain NumPy.

A scan runs one layer in one direction. `_scan.py` defines the shapes, `lengths` and `gate`. The
compiled versions are in `compiled/training/gru.py`. They have the same arguments except `gate`.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference._scan import Array, Tape, gated, previous_states, sigmoid, time_steps


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
    """Run a GRU over a sequence. Products of vectors are elementwise.

        r = sigmoid(gx_r + W_hr h)      z = sigmoid(gx_z + W_hz h)      h' = (1 - z) n + z h
        n = tanh(gx_n + r (W_hn h + b_hn))      with reset_after (PyTorch, cuDNN)
        n = tanh(gx_n + W_hn (r h))             without reset_after (Cho et al., arXiv 1406.1078)

    gx (T, B, 3H) holds the input pre-activations. It contains `bias_ih` and the r and z blocks of
    `bias_hh`. With reset_after, the n block of `bias_hh` is `bias_hn` (H,). Without reset_after, gx
    contains that block too, and `bias_hn` is ignored. weight_hh (3H, H), h0 (B, H). Returns
    y (T, B, H), the last h (B, H), and the tape for `gru_scan_backward`: the activated gates
    r, z, n (T, B, 3H) and, with reset_after, W_hn h + b_hn (T, B, H). No argument is modified.

    >>> gx, weight_hh, zero = np.zeros((3, 1, 6)), np.zeros((6, 2)), np.zeros(2)
    >>> y, h, _ = gru_scan(gx, weight_hh, zero, np.ones((1, 2)))
    >>> h  # every gate is 1/2, and n is 0
    array([[0.125, 0.125]])
    """
    T, B, H = *gx.shape[:2], h0.shape[1]
    y = np.zeros((T, B, H), gx.dtype)
    hn = np.zeros((T if reset_after else 0, B, H), gx.dtype)
    gates = np.empty_like(gx, order="C")
    weight_rz, weight_n = weight_hh[: 2 * H], weight_hh[2 * H :]
    h = h0.copy()
    for t, active in time_steps(T, lengths, reverse):
        read = gated(h, gate)
        gates[t, :, : 2 * H] = sigmoid(gx[t, :, : 2 * H] + read @ weight_rz.T)
        r, z, n = np.split(gates[t], 3, axis=1)
        if reset_after:
            hn[t] = read @ weight_n.T + bias_hn
            n[:] = np.tanh(gx[t, :, 2 * H :] + r * hn[t])
        else:
            n[:] = np.tanh(gx[t, :, 2 * H :] + (r * read) @ weight_n.T)
        h_next = (1 - z) * n + z * h
        y[t] = h_next if active is None else np.where(active, h_next, 0)
        h = h_next if active is None else np.where(active, h_next, h)
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
    """The gradients of `gru_scan`, by backpropagation through time.

    dy (T, B, H) and dh (B, H) are the gradients of y and of the returned state; the values of dy
    in the padding are ignored. Returns dgx (T, B, 3H), dgh (T, B, 3H) and dh0 (B, H).

    dgx is the gradient of gx, and dgh that of the recurrent pre-activations; both are zero in the
    padding. The sum of dgh over time and batch is the gradient of `bias_hh`. The gradient of
    `weight_hh` is the sum of dgh^T h_prev, where h_prev is the state before the step: see
    `previous_states`.

    With reset_after, dgh differs from dgx in the n block only, which is multiplied by r. Without
    reset_after, dgh is dgx, and the n block of `weight_hh` multiplies r * h_prev instead of h_prev;
    r is tape[0][..., :H].
    """
    gates = tape[0]
    T, H = y.shape[0], y.shape[2]
    weight_rz, weight_n = weight_hh[: 2 * H], weight_hh[2 * H :]
    h_prev = previous_states(y, h0, lengths, reverse)
    dgx = np.empty_like(gates)
    dgh = np.empty_like(gates) if reset_after else dgx
    for t, active in reversed(list(time_steps(T, lengths, reverse))):
        r, z, n = np.split(gates[t], 3, axis=1)
        dh_next = dh + dy[t]
        dan = dh_next * (1 - z) * (1 - n**2)
        daz = dh_next * (h_prev[t] - n) * z * (1 - z)
        dh_prev = dh_next * z
        if reset_after:
            dr, dhn = dan * tape[1][t], dan * r
            dread = dhn @ weight_n
        else:
            drh = gated(dan @ weight_n, gate)
            dr, dhn = drh * h_prev[t], dan
            dh_prev, dread = dh_prev + drh * r, 0
        darz = np.concatenate((dr * r * (1 - r), daz), axis=1)
        dh_prev = dh_prev + gated(dread + darz @ weight_rz, gate)
        da, dah = np.concatenate((darz, dan), axis=1), np.concatenate((darz, dhn), axis=1)
        if active is None:
            dgx[t], dgh[t], dh = da, dah, dh_prev
        else:
            dgx[t], dgh[t] = np.where(active, da, 0), np.where(active, dah, 0)
            dh = np.where(active, dh_prev, dh)
    return dgx, dgh, dh.copy()
