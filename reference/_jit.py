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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import overload
from numba.np import arrayobj

from l0gate._errors import L0GateError, check
from l0gate.reference._cells import Array, Tape

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


def _kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[[np.dtype[Any]], Any]]:
    """Compile for one signature per dtype, on first use: kernel(dtype)(*arguments).

    `signature` has a code for each argument: i integer, b bool, l integer array (1-d), L (2-d), and
    arrays of the dtype with n dimensions: rn, which may be read-only, and wn, which are written to.
    One signature takes both kinds of array; without it, numba would compile for each combination.
    """

    def decorate(function: Callable[..., Any]) -> Callable[[np.dtype[Any]], Any]:
        @functools.cache
        def kernel(dtype: np.dtype[Any]) -> Any:
            number = types.float64 if dtype == np.float64 else types.float32
            codes: dict[str, Any] = {"i": types.int64, "b": types.boolean}
            codes |= {"l": types.Array(types.int64, 1, "C", readonly=True)}
            codes |= {"L": types.Array(types.int64, 2, "C", readonly=True)}
            for n in (1, 2, 3):
                codes[f"r{n}"] = types.Array(number, n, "C", readonly=True)
                codes[f"w{n}"] = types.Array(number, n, "C")
            dispatcher = _compiled(function)
            dispatcher.compile(types.void(*(codes[code] for code in signature.split())))
            dispatcher.disable_compile()
            return dispatcher

        return kernel

    return decorate


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


def _packed_shape(depth: int, columns: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    width = _VECTORS * _BYTES // dtype.itemsize
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


@_kernel("i i r3 r3 l b w2 w2 w3 w3 w3")
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


@_kernel("i i r3 r3 l b r3 r3 r2 w3 w2 w2")
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
    _check_arrays(
        gx=(gx, (T, B, 4 * H)),
        panels=(panels, _packed_shape(H, 4 * H, gx.dtype)),
        h0=(h0, (B, H)),
        c0=(c0, (B, H)),
    )
    y, h, c = np.empty((T, B, H), gx.dtype), _copy(h0), _copy(c0)
    inputs = *_contiguous(gx, panels), _step_counts(lengths, T, B), reverse
    _share(_lstm_forward, T, B, panels.size, *inputs, h, c, y, gates, cells)
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
    inputs = *_contiguous(dy, panels), _step_counts(lengths, T, B), reverse
    tapes = _contiguous(gates, cells, c0)
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


@_kernel("i i r3 r3 r3 r1 b l b w2 w3 w3 w3")
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


@_kernel("i i r3 r3 r3 b l b r3 r2 r3 r3 w3 w3 w2")
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
    panels_rz, panels_n = panels
    _check_arrays(
        gx=(gx, (T, B, 3 * H)),
        panels_rz=(panels_rz, _packed_shape(H, 2 * H, gx.dtype)),
        panels_n=(panels_n, _packed_shape(H, H, gx.dtype)),
        bias_hn=(bias_hn, (H,)),
        h0=(h0, (B, H)),
    )
    y, h = np.empty((T, B, H), gx.dtype), _copy(h0)
    inputs = _contiguous(gx, panels_rz, panels_n, bias_hn)
    options = reset_after, _step_counts(lengths, T, B), reverse
    size = panels_rz.size + panels_n.size
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
    _share(_gru_backward, T, B, size, *inputs, *options, *tapes, dgx, dgh, dh0)
    return dgx, dgh, dh0


# --- calls ----------------------------------------------------------------------------------------


_DTYPES = np.dtype(np.float32), np.dtype(np.float64)


def _check_arrays(**arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Compiled code trusts shapes and dtypes: a wrong one would read foreign memory."""
    first, (array, _) = next(iter(arrays.items()))
    dtype = array.dtype
    if dtype not in _DTYPES:
        raise L0GateError(f"`{first}` has dtype {dtype}; compiled code takes float32 or float64")
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise L0GateError(f"`{name}` has shape {array.shape}; expected {shape}")
        if array.dtype != dtype:
            raise L0GateError(f"`{name}` has dtype {array.dtype}; expected {dtype}")


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
    """Call a kernel (first, last, *arguments) for all B sequences, on several threads if it pays.

    size: numbers in the packed weights. The last of the arguments gives the dtype.
    """
    call = kernel(arguments[-1].dtype)
    # Fewer than 4 rows leave a tile half empty: they wait for the weights, not for arithmetic.
    parts = min(_threads, -(-B // 4)) if T * B * (size + _STEP_WORK) > _LEAST_WORK else 1
    ends = [B * part // parts for part in range(parts + 1)] if B else [0, 0]
    others = [
        _pool(os.getpid()).submit(call, first, last, *arguments)
        for first, last in itertools.pairwise(ends[1:])
    ]
    call(0, ends[1], *arguments)
    for other in others:
        other.result()


# --- one step of a whole net ----------------------------------------------------------------------

_LSTM, _GRU, _GRU_RESET_BEFORE, _LINEAR, _TANH, _SIGMOID, _RELU = range(7)


@intrinsic
def _view(typingctx, flat, start, shape):
    """flat[start:...].reshape(shape), at a twentieth of the cost and as unchecked."""
    result = types.Array(flat.dtype, shape.count, "C", readonly=not flat.mutable)

    def generate(context, builder, signature, arguments):
        flat, start, shape = arguments
        source = context.make_array(signature.args[0])(context, builder, flat)
        view = context.make_array(result)(context, builder)
        lengths = cgutils.unpack_tuple(builder, shape)
        strides = [source.itemsize]
        for length in reversed(lengths[1:]):
            strides.insert(0, builder.mul(length, strides[0]))
        arrayobj.populate_array(
            view,
            data=builder.gep(source.data, [start]),
            shape=lengths,
            strides=strides,
            itemsize=source.itemsize,
            meminfo=source.meminfo,
            parent=source.parent,
        )
        context.nrt.incref(builder, result, view._getvalue())
        return view._getvalue()

    return result(flat, start, shape), generate


@_compiled
def _add(y, x):
    for j in range(len(x)):
        y[j] += x[j]


@_compiled
def _set_relu(y, x):
    zero = x.dtype.type(0)
    for j in range(len(y)):
        y[j] = zero if x[j] < zero else x[j]


@_compiled
def _panels_width(columns, parameters):
    width = _VECTORS * _BYTES // parameters.itemsize
    return (columns + width - 1) // width * width


@_compiled
def _set_bias(out, parameters, start):
    """Every row of out = the bias packed at `start`; returns where it ends."""
    rows, columns = out.shape
    for b in range(rows):
        _set(out[b], _view(parameters, start, (columns,)))
    return start + columns


@_compiled
def _add_packed(out, x, parameters, start):
    """out += x @ matrix, for the panels packed at `start`; returns where they end."""
    width = _VECTORS * _BYTES // parameters.itemsize
    depth, columns = x.shape[1], out.shape[1]
    _add_product(out, x, 0, _view(parameters, start, (columns // width, depth, width)))
    return start + depth * columns


@_compiled
def _step_lstm(x, h, c, new_h, new_c, parameters, start, scratch):
    batch, H = h.shape
    a = _view(scratch, 0, (batch, _panels_width(4 * H, parameters)))
    gates = _view(scratch, a.size, (4 * H,))
    start = _set_bias(a, parameters, start)
    start = _add_packed(a, x, parameters, start)
    _add_packed(a, h, parameters, start)
    for b in range(batch):
        _set(new_c[b], c[b])
        _lstm_cell(a[b], gates, new_c[b], new_h[b])


@_compiled
def _step_gru(x, h, new_h, reset_after, parameters, start, scratch):
    batch, H = h.shape
    rz = _view(scratch, 0, (batch, _panels_width(2 * H, parameters)))
    xn = _view(scratch, rz.size, (batch, _panels_width(H, parameters)))
    n = _view(scratch, rz.size + xn.size, xn.shape)
    gates = _view(scratch, rz.size + 2 * xn.size, (batch, 3 * H))
    start = _set_bias(rz, parameters, start)
    start = _add_packed(rz, x, parameters, start)
    start = _add_packed(rz, h, parameters, start)
    start = _set_bias(xn, parameters, start)
    start = _add_packed(xn, x, parameters, start)
    start = _set_bias(n, parameters, start)
    for b in range(batch):
        _set_sigmoid(gates[b, : 2 * H], rz[b])
        if reset_after:
            _set(new_h[b], h[b])
        else:
            _set_product(new_h[b], gates[b], h[b])
    _add_packed(n, new_h, parameters, start)
    for b in range(batch):
        if reset_after:
            _add_reset(n[b], gates[b, :H], xn[b])
        else:
            _set(new_h[b], h[b])
            _add(n[b], xn[b])
        _gru_update(n[b], gates[b], new_h[b])


@_compiled
def _step_linear(x, y, parameters, start, scratch):
    rows, outputs = y.shape
    product = _view(scratch, 0, (rows, _panels_width(outputs, parameters)))
    start = _set_bias(product, parameters, start)
    _add_packed(product, x, parameters, start)
    for b in range(rows):
        _set(y[b], product[b])


@_compiled
def _step_activation(kind, x, y):
    for b in range(len(y)):
        if kind == _TANH:
            _set_tanh(y[b], x[b])
        elif kind == _SIGMOID:
            _set_sigmoid(y[b], x[b])
        else:
            _set_relu(y[b], x[b])


@_kernel("L i i r1 i r1 r1 w1")
def _step_layers(table, widest, room, parameters, batch, x, state, out):
    """One step of every layer in `table` (kind, outputs, start of its parameters).

    x (B * I,). state and the first part of out: the arrays (B, H) of the state one after the
    other; the rest of out: y (B * O,). Each sequence needs `widest` numbers for what layers pass
    on, and `room` numbers within a layer.
    """
    memory = np.empty(batch * (2 * widest + room), parameters.dtype)
    scratch = memory[2 * batch * widest :]
    signal = _view(memory, 0, (batch, len(x) // batch))
    _set(memory[: len(x)], x)
    free = batch * widest
    s = 0
    for layer in range(len(table)):
        kind, outputs, start = table[layer, 0], table[layer, 1], table[layer, 2]
        shape, size = (batch, outputs), batch * outputs
        if kind == _LSTM:
            h, c = _view(state, s, shape), _view(state, s + size, shape)
            new_h, new_c = _view(out, s, shape), _view(out, s + size, shape)
            _step_lstm(signal, h, c, new_h, new_c, parameters, start, scratch)
            signal = new_h
            s += 2 * size
        elif kind in (_GRU, _GRU_RESET_BEFORE):
            h, new_h = _view(state, s, shape), _view(out, s, shape)
            _step_gru(signal, h, new_h, kind == _GRU, parameters, start, scratch)
            signal = new_h
            s += size
        else:
            source, signal = signal, _view(memory, free, shape)
            free = batch * widest - free
            if kind == _LINEAR:
                _step_linear(source, signal, parameters, start, scratch)
            else:
                _step_activation(kind, source, signal)
    y = _view(out, s, signal.shape)
    for b in range(batch):
        _set(y[b], signal[b])


def _pack_bias(bias: Array | None, matrix: Array) -> Array:
    return pack((np.zeros(len(matrix), matrix.dtype) if bias is None else bias)[None])


# The packers return the kind of a layer, its outputs, the sizes of its state, its parameters as
# `_step_layers` reads them, and the room that it needs for each sequence.
_Packed = tuple[int, int, tuple[int, ...], list[Array], int]


def _pack_lstm_layer(weight_ih: Array, weight_hh: Array, bias: Array | None) -> _Packed:
    H = weight_hh.shape[1]
    parts = [_pack_bias(bias, weight_hh), pack(weight_ih.T), pack(weight_hh.T)]
    return _LSTM, H, (H, H), parts, parts[0].size + 4 * H


def _pack_gru_layer(
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    bias_hn: Array | None,
    reset_after: bool,
) -> _Packed:
    H = weight_hh.shape[1]
    rz, n = slice(2 * H), slice(2 * H, None)
    bias = np.zeros(3 * H, weight_hh.dtype) if bias is None else bias
    parts = [_pack_bias(bias[rz], weight_hh[rz]), pack(weight_ih[rz].T), pack(weight_hh[rz].T)]
    parts += [_pack_bias(bias[n], weight_hh[n]), pack(weight_ih[n].T)]
    parts += [_pack_bias(bias_hn if reset_after else None, weight_hh[n]), pack(weight_hh[n].T)]
    room = parts[0].size + 2 * parts[3].size + 3 * H
    return (_GRU if reset_after else _GRU_RESET_BEFORE), H, (H,), parts, room


def _pack_linear_layer(weight: Array, bias: Array | None) -> _Packed:
    parts = [_pack_bias(bias, weight), pack(weight.T)]
    return _LINEAR, len(weight), (), parts, parts[0].size


_PACKERS: dict[str, Callable[..., _Packed]] = {
    "lstm": _pack_lstm_layer,
    "gru": _pack_gru_layer,
    "linear": _pack_linear_layer,
}
_ACTIVATIONS = {"tanh": _TANH, "sigmoid": _SIGMOID, "relu": _RELU}


class NetStep:
    """One time step of a chain of layers as a single call, for streaming.

    `layers` lists them in order with their parameters, all of one dtype, which are packed here:

        ("lstm", weight_ih, weight_hh, bias)     bias (4H,): the sum of both biases
        ("gru", weight_ih, weight_hh, bias, bias_hn, reset_after)     biases as in `gru_scan`
        ("linear", weight, bias)
        ("tanh",), ("sigmoid",), ("relu",)

    A bias may be None. A call takes x (I,) or (B, I) and the state, and returns y (O,) or (B, O)
    and the new state, in memory of their own. A state is one flat array: the arrays (B, H) whose H
    stand in `state_sizes` (for each recurrent layer h, and c of an LSTM), one after the other.

    >>> rng = np.random.default_rng(0)
    >>> weight_ih, weight_hh = rng.standard_normal((2, 8, 2))
    >>> step = NetStep([("lstm", weight_ih, weight_hh, None), ("linear", np.ones((1, 2)), None)])
    >>> y, state = step(np.ones(2), np.zeros(step.state_size))
    >>> h, c = np.split(state, 2)
    >>> step.state_sizes, bool(np.isclose(y[0], h.sum()))
    ((2, 2), True)
    """

    def __init__(self, layers: Sequence[tuple[Any, ...]]) -> None:
        weights = [layer[1] for layer in layers if len(layer) > 1]
        check(weights, "`layers` have no weights; at least one layer must have some")
        self.dtype: np.dtype[Any] = weights[0].dtype
        self.input_size = width = int(weights[0].shape[1])
        self.state_sizes: tuple[int, ...] = ()
        packed: list[Array] = []
        table, widest, room, start = [], width, 0, 0
        for kind, *given in layers:
            if kind in _PACKERS:
                _check_arrays(**{f"{kind} weight": (given[0], (len(given[0]), width))})
                code, width, sizes, parts, used = _PACKERS[kind](*given)
            else:
                code, sizes, parts, used = _ACTIVATIONS[kind], (), [], 0
            table.append((code, width, start))
            start += sum(part.size for part in parts)
            packed += parts
            self.state_sizes += sizes
            widest, room = max(widest, width), max(room, used)
        self.output_size = width
        self.state_size = sum(self.state_sizes)
        parameters = np.concatenate([part.ravel() for part in packed])
        self._plan = np.array(table, np.int64), widest, room, parameters
        self._kernel = _step_layers(self.dtype)

    def __call__(self, x: Array, state: Array) -> tuple[Array, Array]:
        batch = 1 if x.ndim == 1 else len(x)
        size = batch * self.state_size
        if x.size != batch * self.input_size or state.shape != (size,):
            raise self._mismatch(x, state)
        out = np.empty(size + batch * self.output_size, self.dtype)
        try:
            if batch:
                self._kernel(*self._plan, batch, x.ravel(), state, out)
        except TypeError:
            raise self._mismatch(x, state) from None
        y = out[size:]
        return (y if x.ndim == 1 else y.reshape(batch, self.output_size)), out[:size]

    def _mismatch(self, x: Array, state: Array) -> L0GateError:
        return L0GateError(
            f"`x` has shape {x.shape} and dtype {x.dtype}, `state` {state.shape} and "
            f"{state.dtype}; expected x ({self.input_size},) or (B, {self.input_size}) and a "
            f"contiguous state ({self.state_size},) or (B * {self.state_size},), of {self.dtype}"
        )
