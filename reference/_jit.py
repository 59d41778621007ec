# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The scans of `_cells.py`, compiled with numba: same signatures (but no `gate`), same results.

A product runs over register tiles, which keep a few rows of the result in vector registers, and
over a matrix packed into panels as wide as a tile; on small batches that is nearly twice as fast
as BLAS. Threads share a scan by sequences: each takes its rows through all time steps, so that
nothing waits inside the loop over time.

Numerics
- float32 activations are built on one vectorised expm1: sigmoid and tanh are within 4 units in the
  last place on [-20, 20]. The scalar library functions would cost thirty times as much. float64,
  the dtype for checking, calls the library functions.
- The one liberty given to the compiler is `contract` (fused multiply-add). `nnan` and `ninf` would
  let it lose a NaN, which must reach the loss; `reassoc` would undo the argument reduction of
  expm1. Bounds read `limit if x > limit else x`, so that a NaN stays a NaN.
- `error_model="numpy"`: tests for a division by zero would keep loops from being vectorised.

Loops over neurons are many and short: with more arrays in one, LLVM gives up proving that they do
not overlap and leaves it scalar.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from l0gate.reference._cells import Array, Tape
from llvmlite import ir  # type: ignore[import-untyped]
from numba import config, njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import overload

from l0gate._errors import check

intrinsic: Any = typed_intrinsic  # its type counts the typing context as an argument of the call


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile lazily and keep the result on disk; where nothing can be kept, compile each time."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # there is no place to write to
        return njit(**options)(function)
    save = dispatcher._cache.save_overload

    def save_if_possible(*arguments: Any) -> None:
        with contextlib.suppress(OSError):  # no space left, or no longer writable
            save(*arguments)

    dispatcher._cache.save_overload = save_if_possible
    return dispatcher


# --- activations ----------------------------------------------------------------------------------


@intrinsic
def _power_of_two(typingctx, z):
    """2^n for z = n + 1.5 * 2^23, whose lowest bits hold the integer n."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        bits = builder.shl(bits, ir.Constant(bits.type, 23))
        bits = builder.add(bits, ir.Constant(bits.type, 127 << 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


_ONE, _TWO = np.float32(1), np.float32(2)
_LOG2_E = np.float32(1 / math.log(2))
_ROUND = np.float32(1.5 * 2**23)  # adding it rounds to an integer
_LN2_HIGH = np.float32(0.693359375)  # 10 bits, so that its products with n are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
# Minimax polynomial for (expm1(r) - r) / r^2 on |r| <= ln(2)/2, relative to expm1(r): 1.3e-8.
_P0, _P1, _P2 = np.float32(0.49999997), np.float32(0.16666542), np.float32(0.041667204)
_P3, _P4 = np.float32(0.0083666472), np.float32(0.0013882498)


@_compiled
def _expm1(x):
    """exp(x) - 1 in float32 for |x| <= 87: x = n ln(2) + r, and 2^n (1 + expm1(r)) - 1."""
    z = x * _LOG2_E + _ROUND
    n = z - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = (((_P4 * r + _P3) * r + _P2) * r + _P1) * r + _P0
    scale = _power_of_two(z)
    return scale * (p * (r * r) + r) + (scale - _ONE)


@_compiled
def _clamp(x, limit):
    x = limit if x > limit else x
    return -limit if x < -limit else x


def _sigmoid(x):
    """1 / (1 + exp(-x)), in compiled code."""


def _tanh(x):
    """tanh(x), in compiled code; for float32 expm1(2x) / (expm1(2x) + 2)."""


_SIGMOID_LIMIT, _TANH_LIMIT = np.float32(87), np.float32(20)


@overload(_sigmoid)
def _sigmoid_for(x):
    if x == types.float32:
        return lambda x: _ONE / (_TWO + _expm1(_clamp(-x, _SIGMOID_LIMIT)))
    return lambda x: 1 / (1 + math.exp(-x))


@overload(_tanh)
def _tanh_for(x):
    if x == types.float32:

        def tanh(x):
            e = _expm1(_clamp(_TWO * x, _TANH_LIMIT))
            return e / (e + _TWO)

        return tanh
    return lambda x: math.tanh(x)


@_compiled
def _set_sigmoid(y, x):
    for j in range(len(y)):
        y[j] = _sigmoid(x[j])


@_compiled
def _set_tanh(y, x):
    for j in range(len(y)):
        y[j] = _tanh(x[j])


# Loops stand in for assignments to slices, which take numba seconds to compile.


@_compiled
def _set(y, x):
    for j in range(len(y)):
        y[j] = x[j]


@_compiled
def _set_zero(y):
    for j in range(len(y)):
        y[j] = 0


@_compiled
def _set_product(out, x, y):
    for j in range(len(out)):
        out[j] = x[j] * y[j]


# --- products -------------------------------------------------------------------------------------

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]  # what numba compiles for
_BYTES = 64 if "+avx512f" in _FEATURES else 32 if "+avx" in _FEATURES else 16  # a vector register
_VECTORS = 2  # the width of a tile, in vectors
_ROWS = 4 if _BYTES == 32 else 8  # the most rows of a tile: AVX has 16 registers, the others 32


def _tile(rows: int) -> Any:
    """Compile out[row + r, columns of panel p] += a[row + r, start:] @ panels[p], r < rows."""
    # Each sum waits some 4 cycles for its last multiply-add; eight sums keep the units busy.
    unroll = max(1, 8 // (rows * _VECTORS))

    @intrinsic
    def tile(typingctx, a, row, start, panels, p, out):
        def generate(context, builder, signature, arguments):
            _, row, start, _, p, _ = arguments
            a, panels, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 3, 5)
            )
            dtype = signature.args[3].dtype
            size = dtype.bitwidth // 8
            vector = ir.VectorType(context.get_data_type(dtype), _BYTES // size)
            integer = functools.partial(ir.Constant, context.get_value_type(types.intp))
            width = integer(_VECTORS * vector.count)
            depth = cgutils.unpack_tuple(builder, panels.shape)[1]

            def address(array, row, column):
                columns = cgutils.unpack_tuple(builder, array.shape)[-1]
                return builder.gep(array.data, [builder.add(builder.mul(row, columns), column)])

            def vectors(pointer):
                pointer = builder.bitcast(pointer, vector.as_pointer())
                return [builder.gep(pointer, [integer(v)]) for v in range(_VECTORS)]

            def broadcast(x):
                lanes = builder.insert_element(ir.Constant(vector, ir.Undefined), x, integer(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
                return builder.shuffle_vector(lanes, lanes, zeros)

            def add_products(sums, k):
                panel_row = address(panels, builder.add(builder.mul(p, depth), k), integer(0))
                columns = [builder.load(v, align=size) for v in vectors(panel_row)]
                for r in range(rows):
                    x = broadcast(builder.load(builder.gep(left[r], [k])))
                    for total, column in zip(sums[r], columns, strict=True):
                        term = builder.fmul(x, column, flags=["contract"])
                        term = builder.fadd(builder.load(total), term, flags=["contract"])
                        builder.store(term, total)

            row_of = [builder.add(row, integer(r)) for r in range(rows)]
            left = [address(a, r, start) for r in row_of]
            result = [vectors(address(out, r, builder.mul(p, width))) for r in row_of]
            # sums[u][r][v]; on the stack in name, in registers once optimised
            zero = ir.Constant(vector, None)
            sums = [
                [[cgutils.alloca_once_value(builder, zero) for _ in vs] for vs in result]
                for _ in range(unroll)
            ]
            even = builder.and_(depth, integer(-unroll))
            with cgutils.for_range_slice(builder, integer(0), even, integer(unroll)) as (k, _):
                for u in range(unroll):
                    add_products(sums[u], builder.add(k, integer(u)))
            with cgutils.for_range_slice(builder, even, depth, integer(1)) as (k, _):
                add_products(sums[0], k)
            for r in range(rows):
                for v, pointer in enumerate(result[r]):
                    total = builder.load(pointer, align=size)
                    for u in range(unroll):
                        total = builder.fadd(total, builder.load(sums[u][r][v]))
                    builder.store(total, pointer, align=size)
            return context.get_dummy_value()

        return types.void(a, row, start, panels, p, out), generate

    return tile


_tile_most, _tile_4, _tile_2, _tile_1 = (_tile(rows) for rows in (_ROWS, 4, 2, 1))


@_compiled
def _add_product(out, a, start, panels):
    """out += a[:, start : start + K] @ matrix, for the panels of a matrix (K, N).

    out is as wide as all panels together, a multiple of their width.
    """
    rows = len(out)
    for p in range(len(panels)):
        row = 0
        while rows - row >= _ROWS:
            _tile_most(a, row, start, panels, p, out)
            row += _ROWS
        if rows - row >= 4:
            _tile_4(a, row, start, panels, p, out)
            row += 4
        if rows - row >= 2:
            _tile_2(a, row, start, panels, p, out)
            row += 2
        if rows - row >= 1:
            _tile_1(a, row, start, panels, p, out)


def pack(matrix: Array) -> Array:
    """The panels (P, K, width) of a matrix (K, N), padded with zeros to P * width columns.

    >>> panels = pack(np.ones((3, 2), np.float32))
    >>> float(panels.sum()), panels.shape[1]
    (6.0, 3)
    """
    width = _VECTORS * _BYTES // matrix.itemsize
    depth, columns = matrix.shape
    panels = np.zeros((-(-columns // width), depth, width), matrix.dtype)
    for p, panel in enumerate(panels):
        part = matrix[:, p * width : (p + 1) * width]
        panel[:, : part.shape[1]] = part
    return panels


@_compiled
def _scratch(rows, panels):
    """Room for a product with `panels`, zero so that no row holds a NaN by chance."""
    return np.zeros((rows, panels.shape[0] * panels.shape[2]), panels.dtype)


@_compiled
def _at_work(t, lengths):
    """The range of rows that take step t; between its ends some may not."""
    low, high = 0, len(lengths)
    while low < high and t >= lengths[low]:
        low += 1
    while low < high and t >= lengths[high - 1]:
        high -= 1
    return low, high


# --- LSTM -----------------------------------------------------------------------------------------


@_compiled
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
        h[j] = o[j] * _tanh(c[j])


@_compiled
def _lstm_forward(first, last, gx, panels, lengths, reverse, h, c, y, gates, cells):
    """Scan the sequences first..last-1; h and c hold the initial state and get the last one.

    gates and cells keep every time step, or have room for one step only (inference).
    """
    T, H = len(gx), h.shape[1]
    h, c, lengths = h[first:last], c[first:last], lengths[first:last]
    a = _scratch(last - first, panels)
    for step in range(T):
        t = T - 1 - step if reverse else step
        kept = t if len(gates) == T else 0
        low, high = _at_work(t, lengths)
        for b in range(low, high):
            _set(a[b, : 4 * H], gx[t, first + b])
        _add_product(a[low:high], h[low:high], 0, panels)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                _lstm_cell(a[b], gates[kept, s], c[b], h[b])
                _set(y[t, s], h[b])
            else:
                _set_zero(gates[kept, s])
                _set_zero(y[t, s])
            _set(cells[kept, s], c[b])


@_compiled
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


@_compiled
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
        low, high = _at_work(t, lengths)
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
    _check_arrays(gx=(gx, (T, B, 4 * H)), weight_hh=(weight_hh, (4 * H, H)))
    gates, cells = np.empty((T, B, 4 * H), gx.dtype), np.empty((T, B, H), gx.dtype)
    y, h, c = _run_lstm(gx, pack(weight_hh.T), h0, c0, lengths, reverse, gates, cells)
    return y, h, c, (gates, cells)


def lstm_inference(
    gx: Array,
    panels: Array,
    h0: Array,
    c0: Array,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Array]:
    """`lstm_scan` without a tape, from `panels = pack(weight_hh.T)` made once: (y, h, c)."""
    B, H = h0.shape
    gates, cells = np.empty((1, B, 4 * H), gx.dtype), np.empty((1, B, H), gx.dtype)
    return _run_lstm(gx, panels, h0, c0, lengths, reverse, gates, cells)


def _run_lstm(
    gx: Array,
    panels: Array,
    h0: Array,
    c0: Array,
    lengths: Array | None,
    reverse: bool,
    gates: Array,
    cells: Array,
) -> tuple[Array, Array, Array]:
    T, B, H = *gx.shape[:2], h0.shape[1]
    _check_arrays(gx=(gx, (T, B, 4 * H)), h0=(h0, (B, H)), c0=(c0, (B, H)))
    y, h, c = np.empty((T, B, H), gx.dtype), _copy(h0), _copy(c0)
    inputs = _input(gx), _input(panels), _input_lengths(lengths, T, B)
    _share(_lstm_forward, T, B, panels.size, *inputs, reverse, h, c, y, gates, cells)
    return y, h, c


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
    _check_arrays(
        dy=(dy, (T, B, H)),
        dh=(dh, (B, H)),
        dc=(dc, (B, H)),
        weight_hh=(weight_hh, (4 * H, H)),
        c0=(c0, (B, H)),
        gates=(gates, (T, B, 4 * H)),
    )
    panels = pack(weight_hh)
    dgx, dh0, dc0 = np.empty((T, B, 4 * H), dy.dtype), _copy(dh), _copy(dc)
    inputs = _input(dy), _input(panels), _input_lengths(lengths, T, B), reverse
    tapes = _input(gates), _input(cells), _input(c0)
    _share(_lstm_backward, T, B, panels.size, *inputs, *tapes, dgx, dh0, dc0)
    return dgx, dh0, dc0


# --- GRU ------------------------------------------------------------------------------------------


@_compiled
def _add_reset(n, r, xn):
    """n = xn + r n: the candidate's pre-activation with reset_after."""
    for j in range(len(r)):
        n[j] = xn[j] + r[j] * n[j]


@_compiled
def _gru_update(n, gates, h):
    """h = n + z (h - n) for the candidate's pre-activation n; sets gates[2H:] and h."""
    H = len(h)
    z, candidate = gates[H : 2 * H], gates[2 * H :]
    _set_tanh(candidate, n)
    for j in range(H):
        h[j] = candidate[j] + z[j] * (h[j] - candidate[j])


@_compiled
def _gru_forward(
    first, last, gx, panels_rz, panels_n, bias_hn, reset_after, lengths, reverse, h, y, gates, hn
):
    """Scan the sequences first..last-1; h holds the initial state and gets the last one.

    gates and hn keep every time step, or have room for one step only (inference).
    """
    T, H = len(gx), h.shape[1]
    h, lengths = h[first:last], lengths[first:last]
    rz, n = _scratch(last - first, panels_rz), _scratch(last - first, panels_n)
    reset = np.zeros_like(h)
    for step in range(T):
        t = T - 1 - step if reverse else step
        kept = t if len(gates) == T else 0
        low, high = _at_work(t, lengths)
        for b in range(low, high):
            _set(rz[b, : 2 * H], gx[t, first + b])
            _set(n[b, :H], bias_hn if reset_after else gx[t, first + b, 2 * H :])
        _add_product(rz[low:high], h[low:high], 0, panels_rz)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                _set_sigmoid(gates[kept, s, : 2 * H], rz[b])
                _set_product(reset[b], gates[kept, s], h[b])
            else:
                _set_zero(gates[kept, s])
        source = h if reset_after else reset
        _add_product(n[low:high], source[low:high], 0, panels_n)
        for b in range(last - first):
            s = first + b
            if t < lengths[b]:
                if reset_after:
                    _set(hn[kept, s], n[b])
                    _add_reset(n[b], gates[kept, s, :H], gx[t, s, 2 * H :])
                _gru_update(n[b], gates[kept, s], h[b])
                _set(y[t, s], h[b])
            else:
                _set_zero(y[t, s])


@_compiled
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


@_compiled
def _set_reset_gradient(dr, upstream, read, r):
    """dr = upstream * read * r (1 - r)."""
    one = r.dtype.type(1)
    for j in range(len(dr)):
        dr[j] = upstream[j] * read[j] * r[j] * (one - r[j])


@_compiled
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
        low, high = _at_work(t, lengths)
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
    _check_arrays(gx=(gx, (T, B, 3 * H)), weight_hh=(weight_hh, (3 * H, H)))
    gates = np.empty((T, B, 3 * H), gx.dtype)
    hn = np.zeros((T if reset_after else 0, B, H), gx.dtype)
    panels = pack_gru(weight_hh)
    y, h = _run_gru(gx, panels, bias_hn, h0, reset_after, lengths, reverse, gates, hn)
    return y, h, (gates, hn) if reset_after else (gates,)


def pack_gru(weight_hh: Array) -> tuple[Array, Array]:
    """The panels of a GRU's recurrent weights (3H, H) for `gru_inference`: blocks r and z; n."""
    H = weight_hh.shape[1]
    return pack(weight_hh[: 2 * H].T), pack(weight_hh[2 * H :].T)


def gru_inference(
    gx: Array,
    panels: tuple[Array, Array],
    bias_hn: Array,
    h0: Array,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array]:
    """`gru_scan` without a tape, from `panels = pack_gru(weight_hh)` made once: (y, h)."""
    B, H = h0.shape
    gates, hn = np.empty((1, B, 3 * H), gx.dtype), np.empty((1, B, H), gx.dtype)
    return _run_gru(gx, panels, bias_hn, h0, reset_after, lengths, reverse, gates, hn)


def _run_gru(
    gx: Array,
    panels: tuple[Array, Array],
    bias_hn: Array,
    h0: Array,
    reset_after: bool,
    lengths: Array | None,
    reverse: bool,
    gates: Array,
    hn: Array,
) -> tuple[Array, Array]:
    T, B, H = *gx.shape[:2], h0.shape[1]
    _check_arrays(gx=(gx, (T, B, 3 * H)), h0=(h0, (B, H)), bias_hn=(bias_hn, (H,)))
    y, h = np.empty((T, B, H), gx.dtype), _copy(h0)
    inputs = [_input(x) for x in (gx, *panels, bias_hn)]
    options = reset_after, _input_lengths(lengths, T, B), reverse
    size = panels[0].size + panels[1].size
    _share(_gru_forward, T, B, size, *inputs, *options, h, y, gates, hn)
    return y, h


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
    _check_arrays(
        dy=(dy, (T, B, H)),
        dh=(dh, (B, H)),
        weight_hh=(weight_hh, (3 * H, H)),
        h0=(h0, (B, H)),
        gates=(gates, (T, B, 3 * H)),
        hn=(hn, (T if reset_after else 0, B, H)),
    )
    panels_rz, panels_n = pack(weight_hh[: 2 * H]), pack(weight_hh[2 * H :])
    dgx, dh0 = np.empty((T, B, 3 * H), dy.dtype), _copy(dh)
    dgh = np.empty_like(dgx) if reset_after else dgx
    inputs = _input(dy), _input(panels_rz), _input(panels_n)
    options = reset_after, _input_lengths(lengths, T, B), reverse
    tapes = [_input(x) for x in (y, h0, gates, hn)]
    size = panels_rz.size + panels_n.size
    _share(_gru_backward, T, B, size, *inputs, *options, *tapes, dgx, dgh, dh0)
    return dgx, dgh, dh0


# --- calls ----------------------------------------------------------------------------------------


def _check_arrays(**arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Compiled code trusts shapes and dtypes: a wrong one would read foreign memory."""
    dtype = next(iter(arrays.values()))[0].dtype
    check(
        dtype in (np.float32, np.float64),
        f"`{next(iter(arrays))}` has dtype {dtype}; compiled scans take float32 or float64",
    )
    for name, (array, shape) in arrays.items():
        check(array.shape == shape, f"`{name}` has shape {array.shape}; expected {shape}")
        check(array.dtype == dtype, f"`{name}` has dtype {array.dtype}; expected {dtype}")


def _input(x: Array) -> Array:
    """x as a read-only contiguous array, so that each kernel is compiled for one type only."""
    x = np.ascontiguousarray(x).view()
    x.flags.writeable = False
    return x


def _copy(x: Array) -> Array:
    return np.array(x, order="C")


def _input_lengths(lengths: Array | None, T: int, B: int) -> Array:
    if lengths is None:
        return _input(np.full(B, T, np.int64))
    lengths = np.asarray(lengths, np.int64)
    check(lengths.shape == (B,), f"`lengths` has shape {lengths.shape}; expected {(B,)}")
    check(
        B == 0 or (lengths.min() >= 0 and lengths.max() <= T),
        f"`lengths` is {lengths}; each must be within 0..{T}",
    )
    return _input(lengths)


# Below about 0.1 ms of work, in multiply-adds, waking a thread costs more than it saves.
_LEAST_WORK, _STEP_WORK = 2e7, 8192

_threads: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def set_num_threads(threads: int) -> None:
    """Let scans use up to so many threads; at first NUMBA_NUM_THREADS, or the cores there are."""
    global _threads
    check(threads >= 1, f"`threads` is {threads}; it must be at least 1")
    _threads = threads


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process: a fork inherits none, so it makes its own."""
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="l0gate")


def _share(kernel: Any, T: int, B: int, size: int, *arguments: Any) -> None:
    """Call kernel(first, last, *arguments) for all B sequences, on several threads if it pays."""
    parts = min(_threads, B) if T * B * (size + _STEP_WORK) > _LEAST_WORK else 1
    ends = [B * part // parts for part in range(parts + 1)] if B else [0, 0]
    others = [
        _pool(os.getpid()).submit(kernel, first, last, *arguments)
        for first, last in itertools.pairwise(ends[1:])
    ]
    kernel(0, ends[1], *arguments)
    for other in others:
        other.result()
