# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The scans of `_cells.py`, compiled with numba: same signatures (but no `gate`), same results.

They keep a tape, for training; `Program` runs whole nets without one. A product runs over register
tiles, which keep a few rows of the result in vector registers, and over a matrix packed into panels
as wide as a tile; on small batches that is nearly twice as fast as BLAS. Threads share a scan by
sequences: each takes its rows through all time steps, so that nothing waits inside the loop over
time.

Loops over neurons are many and short: with more arrays in one, LLVM gives up proving that they do
not overlap and leaves it scalar. Bounds read `limit if x > limit else x`, so that a NaN stays one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._cells import Array, Tape
from l0gate.reference._compiling import inlined, kernel
from l0gate.reference._lanes import NEAR, address, keep, lanes_of, product_2, sigmoid_of, tanh_of
from l0gate.reference._program import Program, at_work
from l0gate.reference._threads import check_arrays, set_num_threads, share

__all__ = [
    "Program",
    "gru_scan",
    "gru_scan_backward",
    "lstm_scan",
    "lstm_scan_backward",
    "set_num_threads",
]

# --- elementwise ----------------------------------------------------------------------------------


@inlined
def _set_sigmoid(y, x):
    for j in range(len(y)):
        y[j] = sigmoid_of(x[j])


@inlined
def _set_tanh(y, x):
    for j in range(len(y)):
        y[j] = tanh_of(x[j])


# Loops stand in for assignments to slices, which take numba seconds to compile.


@inlined
def _set(y, x):
    for j in range(len(y)):
        y[j] = x[j]


@inlined
def _set_zero(y):
    for j in range(len(y)):
        y[j] = 0


@inlined
def _set_product(out, x, y):
    for j in range(len(out)):
        out[j] = x[j] * y[j]


# --- products -------------------------------------------------------------------------------------

_VECTORS = 2  # the width of a panel


@inlined
def _add_product(out, a, start, panels):
    """out += a[:, start : start + K] @ matrix, for the panels of a matrix (K, N).

    out is as wide as all panels together, a multiple of their width.
    """
    rows, columns = out.shape
    depth, width = panels.shape[1], panels.shape[2]
    like = panels.dtype.type(0)
    left, result, step = address(a) + start, address(out), a.shape[1]
    far = panels.size * panels.itemsize > NEAR
    for p in range(len(panels)):
        place, panel = result + p * width, address(panels) + p * depth * width
        product_2(like, far, rows, left, step, panel, depth, place, columns, place, columns)
    keep(a)
    keep(out)


def _packed_shape(depth: int, columns: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    width = _VECTORS * lanes_of(dtype)
    return -(-columns // width), depth, width


def pack(matrix: Array) -> Array:
    """The panels (P, K, width) of a matrix (K, N), padded with zeros to P * width columns.

    >>> panels = pack(np.ones((3, 2), np.float32))
    >>> float(panels.sum()), panels.shape[1]
    (6.0, 3)
    """
    depth, columns = matrix.shape
    panels = np.zeros(_packed_shape(depth, columns, matrix.dtype), matrix.dtype)
    width = panels.shape[2]
    for p, panel in enumerate(panels):
        part = matrix[:, p * width : (p + 1) * width]
        panel[:, : part.shape[1]] = part
    return panels


@inlined
def _scratch(rows, panels):
    """Room for a product with `panels`, zero so that no row holds a NaN by chance."""
    return np.zeros((rows, panels.shape[0] * panels.shape[2]), panels.dtype)


# --- LSTM -----------------------------------------------------------------------------------------


@inlined
def _lstm_cell(a, gates, c, h):
    """One step of one sequence from the pre-activations a; sets gates (4H,), c and h."""
    H = len(c)
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    _set_sigmoid(gates[: 2 * H], a)
    _set_tanh(g, a[2 * H :])
    _set_sigmoid(o, a[3 * H :])
    for j in range(H):
        c[j] = f[j] * c[j] + i[j] * g[j]
    for j in range(H):
        h[j] = o[j] * tanh_of(c[j])


@kernel("i i r3 r3 l b w2 w2 w3 w3 w3")
def _lstm_forward(first, last, gx, panels, lengths, reverse, h, c, y, gates, cells):
    """Scan the sequences first..last-1; h and c hold the initial state and get the last one."""
    T, H = len(gx), h.shape[1]
    h, c, lengths = h[first:last], c[first:last], lengths[first:last]
    a = _scratch(last - first, panels)
    for step in range(T):
        t = T - 1 - step if reverse else step
        low, high = at_work(t, address(lengths), len(lengths))
        for b in range(low, high):
            _set(a[b, : 4 * H], gx[t, first + b])
        _add_product(a[low:high], h[low:high], 0, panels)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                _lstm_cell(a[b], gates[t, s], c[b], h[b])
                _set(y[t, s], h[b])
            else:
                _set_zero(gates[t, s])
                _set_zero(y[t, s])
            _set(cells[t, s], c[b])


@inlined
def _lstm_cell_backward(dy, gates, c, c_prev, dgx, dh, dc, tanh_c):
    """Backward of `_lstm_cell`: sets dgx and dc, and dh to zero, ready for the sum over dgx."""
    H = len(dc)
    one = dc.dtype.type(1)
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    di, df, dg, do = dgx[:H], dgx[H : 2 * H], dgx[2 * H : 3 * H], dgx[3 * H :]
    _set_tanh(tanh_c, c)
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
    _set_zero(dh)


@kernel("i i r3 r3 l b r3 r3 r2 w3 w2 w2")
def _lstm_backward(first, last, dy, panels, lengths, reverse, gates, cells, c0, dgx, dh0, dc0):
    """Sequences first..last-1; dh0 and dc0 hold the gradients of the last state at first."""
    T, H = len(dy), c0.shape[1]
    lengths, dc = lengths[first:last], dc0[first:last]
    dh = _scratch(last - first, panels)
    for b in range(last - first):
        _set(dh[b, :H], dh0[first + b])
    tanh_c = np.empty(H, dy.dtype)
    for step in range(T):
        t = step if reverse else T - 1 - step
        previous = t + 1 if reverse else t - 1
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                # Through the padding the tape holds the waiting state, so no test of lengths here.
                c_prev = cells[previous, s] if step < T - 1 else c0[s]
                _lstm_cell_backward(
                    dy[t, s], gates[t, s], cells[t, s], c_prev, dgx[t, s], dh[b, :H], dc[b], tanh_c
                )
            else:
                _set_zero(dgx[t, s])
        low, high = at_work(t, address(lengths), len(lengths))
        _add_product(dh[low:high], dgx[t, first + low : first + high], 0, panels)
    for b in range(last - first):
        _set(dh0[first + b], dh[b])


def lstm_scan(
    gx: Array,
    weight_hh: Array,
    h0: Array,
    c0: Array,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Array, Tape]:
    """As `_cells.lstm_scan`; the tape holds the gates and the cell states."""
    T, B, H = *gx.shape[:2], h0.shape[1]
    check_arrays(
        gx=(gx, (T, B, 4 * H)),
        weight_hh=(weight_hh, (4 * H, H)),
        h0=(h0, (B, H)),
        c0=(c0, (B, H)),
    )
    gates, cells = np.empty((T, B, 4 * H), gx.dtype), np.empty((T, B, H), gx.dtype)
    y, h, c, panels = np.empty((T, B, H), gx.dtype), _copy(h0), _copy(c0), pack(weight_hh.T)
    inputs = *_contiguous(gx, panels), _step_counts(lengths, T, B), reverse
    share(_lstm_forward(gx.dtype), T, B, panels.size, *inputs, h, c, y, gates, cells)
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
    """As `_cells.lstm_scan_backward`."""
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
    dgx, dh0, dc0 = np.empty((T, B, 4 * H), dy.dtype), _copy(dh), _copy(dc)
    inputs = *_contiguous(dy, panels), _step_counts(lengths, T, B), reverse
    tapes = _contiguous(gates, cells, c0)
    share(_lstm_backward(dy.dtype), T, B, panels.size, *inputs, *tapes, dgx, dh0, dc0)
    return dgx, dh0, dc0


# --- GRU ------------------------------------------------------------------------------------------


@inlined
def _add_reset(n, r, xn):
    """n = xn + r n: the candidate's pre-activation with reset_after."""
    for j in range(len(r)):
        n[j] = xn[j] + r[j] * n[j]


@inlined
def _gru_update(n, gates, h):
    """h = n + z (h - n) for the candidate's pre-activation n; sets gates[2H:] and h."""
    H = len(h)
    z, candidate = gates[H : 2 * H], gates[2 * H :]
    _set_tanh(candidate, n)
    for j in range(H):
        h[j] = candidate[j] + z[j] * (h[j] - candidate[j])


@kernel("i i r3 r3 r3 r1 b l b w2 w3 w3 w3")
def _gru_forward(
    first, last, gx, panels_rz, panels_n, bias_hn, reset_after, lengths, reverse, h, y, gates, hn
):
    """Scan the sequences first..last-1; h holds the initial state and gets the last one."""
    T, H = len(gx), h.shape[1]
    h, lengths = h[first:last], lengths[first:last]
    rz, n = _scratch(last - first, panels_rz), _scratch(last - first, panels_n)
    reset = np.zeros_like(h)
    for step in range(T):
        t = T - 1 - step if reverse else step
        low, high = at_work(t, address(lengths), len(lengths))
        for b in range(low, high):
            _set(rz[b, : 2 * H], gx[t, first + b])
            _set(n[b, :H], bias_hn if reset_after else gx[t, first + b, 2 * H :])
        _add_product(rz[low:high], h[low:high], 0, panels_rz)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                _set_sigmoid(gates[t, s, : 2 * H], rz[b])
                _set_product(reset[b], gates[t, s], h[b])
            else:
                _set_zero(gates[t, s])
        source = h if reset_after else reset
        _add_product(n[low:high], source[low:high], 0, panels_n)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                if reset_after:
                    _set(hn[t, s], n[b])
                    _add_reset(n[b], gates[t, s, :H], gx[t, s, 2 * H :])
                _gru_update(n[b], gates[t, s], h[b])
                _set(y[t, s], h[b])
            else:
                _set_zero(y[t, s])


@inlined
def _gru_cell_backward(dy, gates, h_prev, dgx, dh):
    """Adds dy to dh, sets the z and n blocks of dgx, and leaves dh with the carry's share."""
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
    """dr = upstream * read * r (1 - r)."""
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
    """Sequences first..last-1; dh0 holds the gradient of the last state at first.

    Without reset_after, dgh is dgx.
    """
    T, H = len(dy), h0.shape[1]
    lengths = lengths[first:last]
    dh, dreset = _scratch(last - first, panels_n), _scratch(last - first, panels_n)
    for b in range(last - first):
        _set(dh[b, :H], dh0[first + b])
    for step in range(T):
        t = step if reverse else T - 1 - step
        previous = t + 1 if reverse else t - 1
        low, high = at_work(t, address(lengths), len(lengths))
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                started = 0 <= previous < lengths[b]
                h_prev = y[previous, s] if started else h0[s]
                _gru_cell_backward(dy[t, s], gates[t, s], h_prev, dgx[t, s], dh[b])
                if reset_after:
                    dx, dr, r = dgx[t, s], dgx[t, s, :H], gates[t, s, :H]
                    _set_reset_gradient(dr, dx[2 * H :], hn[t, s], r)
                    _set(dgh[t, s, : 2 * H], dx)
                    _set_product(dgh[t, s, 2 * H :], dx[2 * H :], r)
            else:
                _set_zero(dgx[t, s])
                _set_zero(dgh[t, s])
        da = dgh[t, first + low : first + high]
        if reset_after:
            _add_product(dh[low:high], da, 2 * H, panels_n)
        else:
            for b in range(low, high):
                _set_zero(dreset[b])
            _add_product(dreset[low:high], da, 2 * H, panels_n)
            for b in range(low, high):
                s = first + b
                if t < lengths[b]:
                    started = 0 <= previous < lengths[b]
                    h_prev = y[previous, s] if started else h0[s]
                    r = gates[t, s, :H]
                    _set_reset_gradient(dgx[t, s, :H], dreset[b], h_prev, r)
                    for j in range(H):
                        dh[b, j] += dreset[b, j] * r[j]
        _add_product(dh[low:high], da, 0, panels_rz)
    for b in range(last - first):
        _set(dh0[first + b], dh[b])


def gru_scan(
    gx: Array,
    weight_hh: Array,
    bias_hn: Array,
    h0: Array,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Tape]:
    """As `_cells.gru_scan`."""
    T, B, H = *gx.shape[:2], h0.shape[1]
    check_arrays(
        gx=(gx, (T, B, 3 * H)),
        weight_hh=(weight_hh, (3 * H, H)),
        bias_hn=(bias_hn, (H,)),
        h0=(h0, (B, H)),
    )
    gates, hn = np.empty((T, B, 3 * H), gx.dtype), np.zeros((T, B, H), gx.dtype)
    y, h = np.empty((T, B, H), gx.dtype), _copy(h0)
    panels_rz, panels_n = pack(weight_hh[: 2 * H].T), pack(weight_hh[2 * H :].T)
    inputs = _contiguous(gx, panels_rz, panels_n, bias_hn)
    options = reset_after, _step_counts(lengths, T, B), reverse
    size = panels_rz.size + panels_n.size
    share(_gru_forward(gx.dtype), T, B, size, *inputs, *options, h, y, gates, hn)
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
    """As `_cells.gru_scan_backward`."""
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
    dgx, dh0 = np.empty((T, B, 3 * H), dy.dtype), _copy(dh)
    dgh = np.empty_like(dgx) if reset_after else dgx
    inputs = _contiguous(dy, panels_rz, panels_n)
    options = reset_after, _step_counts(lengths, T, B), reverse
    tapes = _contiguous(y, h0, gates, hn)
    size = panels_rz.size + panels_n.size
    share(_gru_backward(dy.dtype), T, B, size, *inputs, *options, *tapes, dgx, dgh, dh0)
    return dgx, dgh, dh0


# --- calls ----------------------------------------------------------------------------------------


def _contiguous(*arrays: Array) -> list[Array]:
    return [np.ascontiguousarray(array) for array in arrays]


def _copy(x: Array) -> Array:
    return np.array(x, order="C")


def _step_counts(lengths: Array | None, T: int, B: int) -> Array:
    """The number of steps of every sequence."""
    if lengths is None:
        return np.full(B, T, np.int64)
    counts = np.ascontiguousarray(lengths, np.int64)
    if counts.shape != (B,):
        raise L0GateError(f"`lengths` has shape {counts.shape}; expected {(B,)}")
    if B and not (counts.min() >= 0 and counts.max() <= T):
        raise L0GateError(f"`lengths` is {counts}; each must be within 0..{T}")
    return counts
