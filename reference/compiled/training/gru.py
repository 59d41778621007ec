# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The GRU over a whole sequence, forward and backward, compiled with numba.

`gru_scan` and `gru_scan_backward` compute the same as those of `_gru.py`. They have no argument
`gate`, and the tape between them has other entries. A kernel runs the sequences first..last-1 of a
batch, so that each thread can run a part of it.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference._scan import Array, Tape
from l0gate.reference.compiled.arguments import check_arrays, contiguous, copy_of
from l0gate.reference.compiled.compile import inlined, kernel
from l0gate.reference.compiled.lengths import active_rows, step_counts
from l0gate.reference.compiled.simd.memory import address
from l0gate.reference.compiled.threads import run_on_threads
from l0gate.reference.compiled.training.loops import (
    set_product,
    set_sigmoid,
    set_tanh,
    set_to,
    set_zero,
)
from l0gate.reference.compiled.training.panels import add_product, pack, scratch


@inlined
def _add_reset(n, r, xn):
    """n = xn + r n, all (H,): the pre-activation of the candidate with reset_after."""
    for j in range(len(r)):
        n[j] = xn[j] + r[j] * n[j]


@inlined
def _gru_update(n, gates, h):
    """Update h (H,) from n (H,), the pre-activation of the candidate: h = tanh(n) (1 - z) + z h.

    z is gates[H:2H]; the candidate tanh(n) is written to gates[2H:].
    """
    H = len(h)
    z, candidate = gates[H : 2 * H], gates[2 * H :]
    set_tanh(candidate, n)
    for j in range(H):
        h[j] = candidate[j] + z[j] * (h[j] - candidate[j])


@kernel("i i r3 r3 r3 r1 b l b w2 w3 w3 w3")
def _gru_forward(
    first, last, gx, panels_rz, panels_n, bias_hn, reset_after, lengths, reverse, h, y, gates, hn
):
    """Run the forward pass; h (B, H) holds the initial state and is overwritten with the last."""
    T, H = len(gx), h.shape[1]
    h, lengths = h[first:last], lengths[first:last]
    rz, n = scratch(last - first, panels_rz), scratch(last - first, panels_n)
    reset = np.zeros_like(h)
    for step in range(T):
        t = T - 1 - step if reverse else step
        low, high = active_rows(t, address(lengths), len(lengths))
        for b in range(low, high):
            set_to(rz[b, : 2 * H], gx[t, first + b])
            set_to(n[b, :H], bias_hn if reset_after else gx[t, first + b, 2 * H :])
        add_product(rz[low:high], h[low:high], 0, panels_rz)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                set_sigmoid(gates[t, s, : 2 * H], rz[b])
                set_product(reset[b], gates[t, s], h[b])
            else:
                set_zero(gates[t, s])
        source = h if reset_after else reset
        add_product(n[low:high], source[low:high], 0, panels_n)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                if reset_after:
                    set_to(hn[t, s], n[b])
                    _add_reset(n[b], gates[t, s, :H], gx[t, s, 2 * H :])
                _gru_update(n[b], gates[t, s], h[b])
                set_to(y[t, s], h[b])
            else:
                set_zero(y[t, s])


@inlined
def _gru_cell_backward(dy, gates, h_prev, dgx, dh):
    """Backward of `_gru_update`; dy and dh (H,) are the gradients of y and of h after the step.

    Sets the z and n blocks of dgx (3H,). dh becomes z dh, to which the caller adds the rest of the
    gradient of h before the step.
    """
    H = len(h_prev)
    one = dh.dtype.type(1)
    z, n, dz, dn = gates[H : 2 * H], gates[2 * H :], dgx[H : 2 * H], dgx[2 * H :]
    for j in range(H):
        dh[j] += dy[j]
    for j in range(H):
        dn[j] = dh[j] * (one - z[j]) * (one - n[j] * n[j])
    for j in range(H):
        dz[j] = dh[j] * (h_prev[j] - n[j]) * z[j] * (one - z[j])
    for j in range(H):
        dh[j] *= z[j]


@inlined
def _set_reset_gradient(dr, upstream, read, r):
    """Set dr = upstream * read * r (1 - r), all (H,): the gradient of r's pre-activation."""
    one = r.dtype.type(1)
    for j in range(len(dr)):
        dr[j] = upstream[j] * read[j] * r[j] * (one - r[j])


@kernel("i i r3 r3 r3 b l b r3 r2 r3 r3 w3 w3 w2")
def _gru_backward(
    first,
    last,
    dy,
    panels_rz,
    panels_n,
    reset_after,
    lengths,
    reverse,
    y,
    h0,
    gates,
    hn,
    dgx,
    dgh,
    dh0,
):
    """Run the backward pass; dh0 (B, H) holds the gradient of the last state.

    dh0 is overwritten with the gradient of the initial state.
    Without reset_after, dgh is the same array as dgx.
    """
    T, H = len(dy), h0.shape[1]
    lengths = lengths[first:last]
    dh, dreset = scratch(last - first, panels_n), scratch(last - first, panels_n)
    for b in range(last - first):
        set_to(dh[b, :H], dh0[first + b])
    for step in range(T):
        t = step if reverse else T - 1 - step
        previous = t + 1 if reverse else t - 1
        low, high = active_rows(t, address(lengths), len(lengths))
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                started = 0 <= previous < lengths[b]
                h_prev = y[previous, s] if started else h0[s]
                _gru_cell_backward(dy[t, s], gates[t, s], h_prev, dgx[t, s], dh[b])
                if reset_after:
                    dx, dr, r = dgx[t, s], dgx[t, s, :H], gates[t, s, :H]
                    _set_reset_gradient(dr, dx[2 * H :], hn[t, s], r)
                    set_to(dgh[t, s, : 2 * H], dx)
                    set_product(dgh[t, s, 2 * H :], dx[2 * H :], r)
            else:
                set_zero(dgx[t, s])
                set_zero(dgh[t, s])
        da = dgh[t, first + low : first + high]
        if reset_after:
            add_product(dh[low:high], da, 2 * H, panels_n)
        else:
            for b in range(low, high):
                set_zero(dreset[b])
            add_product(dreset[low:high], da, 2 * H, panels_n)
            for b in range(low, high):
                s = first + b
                if t < lengths[b]:
                    started = 0 <= previous < lengths[b]
                    h_prev = y[previous, s] if started else h0[s]
                    r = gates[t, s, :H]
                    _set_reset_gradient(dgx[t, s, :H], dreset[b], h_prev, r)
                    for j in range(H):
                        dh[b, j] += dreset[b, j] * r[j]
        add_product(dh[low:high], da, 0, panels_rz)
    for b in range(last - first):
        set_to(dh0[first + b], dh[b])


def gru_scan(
    gx: Array,
    weight_hh: Array,
    bias_hn: Array,
    h0: Array,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Tape]:
    """Run a GRU over a sequence: as `gru_scan` in `reference/_gru.py`, but without gates."""
    T, B, H = *gx.shape[:2], h0.shape[1]
    check_arrays(
        gx=(gx, (T, B, 3 * H)),
        weight_hh=(weight_hh, (3 * H, H)),
        bias_hn=(bias_hn, (H,)),
        h0=(h0, (B, H)),
    )
    gates, hn = np.empty((T, B, 3 * H), gx.dtype), np.zeros((T, B, H), gx.dtype)
    y, h = np.empty((T, B, H), gx.dtype), copy_of(h0)
    panels_rz, panels_n = pack(weight_hh[: 2 * H].T), pack(weight_hh[2 * H :].T)
    inputs = contiguous(gx, panels_rz, panels_n, bias_hn)
    options = reset_after, step_counts(lengths, T, B), reverse
    size = panels_rz.size + panels_n.size
    run_on_threads(_gru_forward(gx.dtype), T, B, size, *inputs, *options, h, y, gates, hn)
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
) -> tuple[Array, Array, Array]:
    """The gradients of `gru_scan`: as `gru_scan_backward` in `reference/_gru.py`, without gates."""
    gates = tape[0]
    T, B, H = y.shape
    hn = tape[1] if reset_after else y[:0]
    check_arrays(
        dy=(dy, (T, B, H)),
        dh=(dh, (B, H)),
        weight_hh=(weight_hh, (3 * H, H)),
        y=(y, (T, B, H)),
        h0=(h0, (B, H)),
        gates=(gates, (T, B, 3 * H)),
        hn=(hn, (T if reset_after else 0, B, H)),
    )
    panels_rz, panels_n = pack(weight_hh[: 2 * H]), pack(weight_hh[2 * H :])
    dgx, dh0 = np.empty((T, B, 3 * H), dy.dtype), copy_of(dh)
    dgh = np.empty_like(dgx) if reset_after else dgx
    inputs = contiguous(dy, panels_rz, panels_n)
    options = reset_after, step_counts(lengths, T, B), reverse
    tapes = contiguous(y, h0, gates, hn)
    size = panels_rz.size + panels_n.size
    run_on_threads(_gru_backward(dy.dtype), T, B, size, *inputs, *options, *tapes, dgx, dgh, dh0)
    return dgx, dgh, dh0
