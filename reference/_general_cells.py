"""Recurrent cells with any activation functions, forward only: LSTM, GRU and the simple RNN.

`_lstm.py` and `_gru.py` have the two cells with their usual functions, forward and backward.
Shapes and gate order are theirs. `f` is the cell's activation, `s` its recurrent activation:

    LSTM   i, f', o = s(a_i), s(a_f), s(a_o)     c' = f' c + i f(a_g)     h' = o f(c')
    GRU    r, z = s(a_r), s(a_z)                 h' = (1 - z) n + z h
           n = f(gx_n + r (W_hn h + b_hn)) with reset_after, f(gx_n + W_hn (r h)) without
    RNN    h' = f(a)                             (Elman, 1990)

with a = gx + W_hh h.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0gate.reference._scan import Array, time_steps

Function = Callable[[Array], Array]
States = tuple[Array, ...]  # (h, c) or (h,), each (B, H)
Cell = Callable[[Array, States], States]  # one time step: (gx_t, states) -> new states


def lstm_cell(weight_hh: Array, f: Function, s: Function) -> Cell:
    def step(gx: Array, states: States) -> States:
        h, c = states
        i, forget, g, o = np.split(gx + h @ weight_hh.T, 4, axis=-1)
        c = s(forget) * c + s(i) * f(g)
        return s(o) * f(c), c

    return step


def gru_cell(weight_hh: Array, bias_hn: Array, reset_after: bool, f: Function, s: Function) -> Cell:
    H = weight_hh.shape[1]
    weight_rz, weight_n = weight_hh[: 2 * H], weight_hh[2 * H :]

    def step(gx: Array, states: States) -> States:
        (h,) = states
        r, z = np.split(s(gx[..., : 2 * H] + h @ weight_rz.T), 2, axis=-1)
        hn = r * (h @ weight_n.T + bias_hn) if reset_after else (r * h) @ weight_n.T
        n = f(gx[..., 2 * H :] + hn)
        return ((1 - z) * n + z * h,)

    return step


def rnn_cell(weight_hh: Array, f: Function) -> Cell:
    return lambda gx, states: (f(gx + states[0] @ weight_hh.T),)


def cell_scan(
    cell: Cell, gx: Array, states: States, lengths: Array | None, reverse: bool
) -> tuple[Array, States]:
    """Run a cell over gx (T, B, gates H); returns y (T, B, H) and the last states.

    >>> half = rnn_cell(np.array([[0.5]]), lambda x: x)
    >>> cell_scan(half, np.zeros((2, 1, 1)), (np.ones((1, 1)),), None, False)[0].ravel()
    array([0.5 , 0.25])
    """
    y = np.zeros((len(gx), *states[0].shape), gx.dtype)
    for t, active in time_steps(len(gx), lengths, reverse):
        new = cell(gx[t], states)
        y[t] = new[0] if active is None else np.where(active, new[0], 0)
        states = (
            new
            if active is None
            else tuple(np.where(active, a, b) for a, b in zip(new, states, strict=True))
        )
    return y, tuple(array.copy() for array in states)
