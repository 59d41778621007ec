# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The LSTM over a whole sequence, forward and backward, compiled with numba.

`lstm_scan` and `lstm_scan_backward` compute the same as those of `_lstm.py`. They have no argument
`gate`, and the tape between them has other entries. A kernel runs the sequences first..last-1 of a
batch, so that each thread can run a part of it.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference._scan import Array, Tape
from l0gate.reference.compiled.arguments import check_arrays, contiguous, copy_of
from l0gate.reference.compiled.compile import inlined, kernel
from l0gate.reference.compiled.lengths import active_rows, step_counts
from l0gate.reference.compiled.simd.activations import tanh_of
from l0gate.reference.compiled.simd.memory import address
from l0gate.reference.compiled.threads import run_on_threads
from l0gate.reference.compiled.training.loops import set_sigmoid, set_tanh, set_to, set_zero
from l0gate.reference.compiled.training.panels import add_product, pack, scratch


@inlined
def _lstm_cell(a, gates, c, h):
    """One step of one sequence from the pre-activations a (4H,); sets gates (4H,), c and h (H,)."""
    H = len(c)
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    set_sigmoid(gates[: 2 * H], a)
    set_tanh(g, a[2 * H :])
    set_sigmoid(o, a[3 * H :])
    for j in range(H):
        c[j] = f[j] * c[j] + i[j] * g[j]
    for j in range(H):
        h[j] = o[j] * tanh_of(c[j])


@kernel("i i r3 r3 l b w2 w2 w3 w3 w3")
def _lstm_forward(first, last, gx, panels, lengths, reverse, h, c, y, gates, cells):
    """Run the forward pass; h and c (B, H) hold the initial state, overwritten with the last."""
    T, H = len(gx), h.shape[1]
    h, c, lengths = h[first:last], c[first:last], lengths[first:last]
    a = scratch(last - first, panels)
    for step in range(T):
        t = T - 1 - step if reverse else step
        low, high = active_rows(t, address(lengths), len(lengths))
        for b in range(low, high):
            set_to(a[b, : 4 * H], gx[t, first + b])
        add_product(a[low:high], h[low:high], 0, panels)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                _lstm_cell(a[b], gates[t, s], c[b], h[b])
                set_to(y[t, s], h[b])
            else:
                set_zero(gates[t, s])
                set_zero(y[t, s])
            set_to(cells[t, s], c[b])


@inlined
def _lstm_cell_backward(dy, gates, c, c_prev, dgx, dh, dc, tanh_c):
    """Backward of `_lstm_cell`; dy, dh and dc are the gradients of y, h and c after the step.

    Sets dgx (4H,), and dc to the gradient of c before the step. dh becomes zero, to which the
    caller adds dgx @ weight_hh. tanh_c is scratch memory.
    """
    H = len(dc)
    one = dc.dtype.type(1)
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    di, df, dg, do = dgx[:H], dgx[H : 2 * H], dgx[2 * H : 3 * H], dgx[3 * H :]
    set_tanh(tanh_c, c)
    for j in range(H):
        dh[j] += dy[j]
    for j in range(H):
        dc[j] += dh[j] * o[j] * (one - tanh_c[j] * tanh_c[j])
    for j in range(H):
        do[j] = dh[j] * tanh_c[j] * o[j] * (one - o[j])
    for j in range(H):
        di[j] = dc[j] * g[j] * i[j] * (one - i[j])
    for j in range(H):
        df[j] = dc[j] * c_prev[j] * f[j] * (one - f[j])
    for j in range(H):
        dg[j] = dc[j] * i[j] * (one - g[j] * g[j])
    for j in range(H):
        dc[j] *= f[j]
    set_zero(dh)


@kernel("i i r3 r3 l b r3 r3 r2 w3 w2 w2")
def _lstm_backward(first, last, dy, panels, lengths, reverse, gates, cells, c0, dgx, dh0, dc0):
    """Run the backward pass; dh0 and dc0 (B, H) hold the gradients of the last state.

    Both are overwritten with the gradients of the initial state.
    """
    T, H = len(dy), c0.shape[1]
    lengths, dc = lengths[first:last], dc0[first:last]
    dh = scratch(last - first, panels)
    for b in range(last - first):
        set_to(dh[b, :H], dh0[first + b])
    tanh_c = np.empty(H, dy.dtype)
    for step in range(T):
        t = step if reverse else T - 1 - step
        previous = t + 1 if reverse else t - 1
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                # In the padding, cells repeats the state, so it also holds the one before a
                # reverse scan's first step of a sequence.
                c_prev = cells[previous, s] if step < T - 1 else c0[s]
                _lstm_cell_backward(
                    dy[t, s], gates[t, s], cells[t, s], c_prev, dgx[t, s], dh[b, :H], dc[b], tanh_c
                )
            else:
                set_zero(dgx[t, s])
        low, high = active_rows(t, address(lengths), len(lengths))
        add_product(dh[low:high], dgx[t, first + low : first + high], 0, panels)
    for b in range(last - first):
        set_to(dh0[first + b], dh[b])


def lstm_scan(
    gx: Array,
    weight_hh: Array,
    h0: Array,
    c0: Array,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Array, Tape]:
    """Run an LSTM over a sequence: as `lstm_scan` in `reference/_lstm.py`, but without gates.

    The tape has only the gates and the cell states.
    """
    T, B, H = *gx.shape[:2], h0.shape[1]
    check_arrays(
        gx=(gx, (T, B, 4 * H)),
        weight_hh=(weight_hh, (4 * H, H)),
        h0=(h0, (B, H)),
        c0=(c0, (B, H)),
    )
    gates, cells = np.empty((T, B, 4 * H), gx.dtype), np.empty((T, B, H), gx.dtype)
    y, h, c, panels = np.empty((T, B, H), gx.dtype), copy_of(h0), copy_of(c0), pack(weight_hh.T)
    inputs = *contiguous(gx, panels), step_counts(lengths, T, B), reverse
    run_on_threads(_lstm_forward(gx.dtype), T, B, panels.size, *inputs, h, c, y, gates, cells)
    return y, h, c, (gates, cells)


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
) -> tuple[Array, Array, Array]:
    """The gradients of `lstm_scan`, as `lstm_scan_backward` in `reference/_lstm.py`; no gates."""
    gates, cells = tape
    T, B, H = cells.shape
    check_arrays(
        dy=(dy, (T, B, H)),
        dh=(dh, (B, H)),
        dc=(dc, (B, H)),
        weight_hh=(weight_hh, (4 * H, H)),
        c0=(c0, (B, H)),
        gates=(gates, (T, B, 4 * H)),
    )
    panels = pack(weight_hh)
    dgx, dh0, dc0 = np.empty((T, B, 4 * H), dy.dtype), copy_of(dh), copy_of(dc)
    inputs = *contiguous(dy, panels), step_counts(lengths, T, B), reverse
    tapes = contiguous(gates, cells, c0)
    run_on_threads(_lstm_backward(dy.dtype), T, B, panels.size, *inputs, *tapes, dgx, dh0, dc0)
    return dgx, dh0, dc0
