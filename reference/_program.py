# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Whole nets as one compiled call, for inference on sequences and one step at a time.

Weights are packed once into *blocks*, one for as many neurons as a vector register holds: all gates
of these neurons side by side. A tile of products then leaves all that is needed to update them in
registers, and nothing is written but the states. Per layer and chunk of time steps, the input
product comes first, for all steps at once; then step by step the recurrent one.

Threads share a call by sequences: each takes its rows through all layers and time steps, so that
nothing waits inside the loop over time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.reference._cells import Array
from l0gate.reference._compiling import entry, inlined, kernel
from l0gate.reference._lanes import (
    LINE,
    NEAR,
    address,
    aligned,
    clear,
    copy,
    exact_gru_block,
    exact_gru_gates_block,
    exact_gru_update_block,
    exact_lstm_block,
    exact_sigmoid_of,
    exact_tanh_of,
    gru_block,
    gru_gates_block,
    gru_update_block,
    integer_at,
    keep,
    lanes_in,
    lanes_of,
    lstm_block,
    number_at,
    product_1,
    product_2,
    product_3,
    product_4,
    relu_of,
    set_number,
    sigmoid_of,
    strip_of,
    tanh_of,
    type_of,
)
from l0gate.reference._threads import LEAST_WORK, STEP_WORK, check_arrays, share

_LSTM, _GRU, _GRU_RESET_BEFORE, _LINEAR, _TANH, _SIGMOID, _RELU = range(7)
# The columns of a row of the table, one row for each layer and direction: its kind, how many
# features it reads and writes, where its parameters begin, whether it runs backward in time, where
# its outputs begin among all those of its layer, how many these are, whether it is the last
# direction, and whether its layer is the last.
_KIND, _INPUTS, _OUTPUTS, _START, _REVERSE, _COLUMN, _WIDTH, _LAST, _FINAL = range(9)
_COLUMNS = 9
_HEAD = 6  # before the rows: see `Program`
_TOGETHER = 32  # rows times blocks whose products come before their activations
_BRIEF = 2**18  # bytes of weights that take 2 or 3 us, less than it takes to wake another thread
_MANY = 64  # inputs, so that their product takes longer than to spread it
_CHUNK = 96  # rows of an input product, so that weights are read seldom and results stay in cache


@inlined
def _blocks(count, like):
    lanes = lanes_in(like)
    return (count + lanes - 1) // lanes


# A signal is (address, distance between time steps, distance between sequences).


@inlined
def _set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, gates, gx):
    """gx (rows, blocks, gates, lanes) = bias + x @ matrix, for block q."""
    size = gates * lanes_in(like)
    bias, out, step = panels + q * size, gx + q * size, blocks * size
    panel = panels + (blocks + q * inputs) * size
    if gates == 4:
        product_4(like, far, rows, x, x_step, panel, inputs, bias, 0, out, step)
    else:
        product_3(like, far, rows, x, x_step, panel, inputs, bias, 0, out, step)


@inlined
def _set_input_products(like, far, t, steps, b, x, inputs, panels, blocks, gates, gx):
    """The same for all blocks and the rows of x[t : t + steps]."""
    x, x_t, x_b = x
    rows, runs = b, steps
    if x_t == b * x_b or b == 1:  # all rows are equally far from each other
        rows, runs = b * steps, 1
        if b == 1:
            x_b = x_t
    for q in range(blocks):
        for run in range(runs):
            source, out = x + (t + run) * x_t, gx + run * rows * blocks * gates * lanes_in(like)
            _set_input_product(like, far, q, rows, source, x_b, inputs, panels, blocks, gates, out)


@inlined
def _run_linear(like, far, T, b, x, inputs, panels, outputs, room, y):
    lanes = lanes_in(like)
    size = 2 * lanes
    blocks = (outputs + size - 1) // size
    x, x_t, x_b = x
    y, y_t, y_b = y
    if x_t == b * x_b and y_t == b * y_b:
        T, b = 1, T * b
    matrix = panels + blocks * size
    for q in range(blocks):
        columns = min(size, outputs - q * size)
        bias, panel = panels + q * size, matrix + q * size * inputs
        for t in range(T):
            source, out = x + t * x_t, y + t * y_t + q * size
            if columns == size:
                product_2(like, far, b, source, x_b, panel, inputs, bias, 0, out, y_b)
                continue
            for row in range(0, b, _TOGETHER):
                rows = min(_TOGETHER, b - row)
                place = source + row * x_b
                product_2(like, far, rows, place, x_b, panel, inputs, bias, 0, room, size)
                for r in range(rows):
                    copy(like, out + (row + r) * y_b, room + r * size, columns)


# A block of few neurons is mostly empty where vectors are wide. A layer with many inputs then has
# its input matrix packed like that of a linear layer, and the product is spread over the blocks.


def _is_dense(lanes, gates, H, inputs):
    blocks = (H + lanes - 1) // lanes
    least = (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return inputs >= _MANY and 5 * least <= 4 * gates * blocks * lanes


def _columns(lanes, gates, H, dense):
    """Of the packed input matrix."""
    if dense:
        return (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return gates * ((H + lanes - 1) // lanes) * lanes


_is_dense_in_kernel, _columns_in_kernel = inlined(_is_dense), inlined(_columns)


@inlined
def _spread(like, rows, packed, blocks, gates, H, gx):
    """gx (rows, blocks, gates, lanes), from packed (rows, gates, H)."""
    lanes = lanes_in(like)
    for row in range(rows):
        for gate in range(gates):
            source = packed + (row * gates + gate) * H
            to = gx + (row * blocks * gates + gate) * lanes
            for q in range(blocks):
                at = q * lanes
                copy(like, to + gates * at, source + at, min(lanes, H - at))


# In a step all products of some blocks come before their activations, which then do not wait for
# each other: of few blocks where there are many rows, so that the sums stay in the cache. Every
# other step goes through the blocks backwards: what the step before read last is still cached. A
# step by itself takes the input product of a block along, for the same reason.


@inlined
def _lstm_step(
    like, how, flip, low, high, signal, gx, panels, matrix, H, blocks, h, new_h, c, new_c
):  # fmt: skip
    """signal: x (B, I), the distance between its rows, and I; x is 0 if gx holds its product."""
    (exact, far), (x, x_step, inputs) = how, signal
    x += low * x_step
    lanes = lanes_in(like)
    size, wide, rows = 4 * lanes, blocks * lanes, high - low
    gx, h, new_h, c, new_c = (
        gx + low * blocks * size, h + low * wide, new_h + low * wide, c + low * wide,
        new_c + low * wide,
    )  # fmt: skip
    together = max(1, _TOGETHER // max(1, rows))
    for begin in range(0, blocks, together):
        end = min(blocks, begin + together)
        for n in range(begin, end):
            q = blocks - 1 - n if flip else n
            if x:
                _set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, 4, gx)
            a, step = gx + q * size, blocks * size
            product_4(like, far, rows, h, wide, matrix + q * size * H, H, a, step, a, step)
        for row in range(rows):
            for n in range(begin, end):
                q = blocks - 1 - n if flip else n
                a, at = gx + (row * blocks + q) * size, row * wide + q * lanes
                where = a, a + lanes, a + 2 * lanes, a + 3 * lanes, c + at, new_c + at, new_h + at
                if exact:
                    exact_lstm_block(like, where)
                else:
                    lstm_block(like, where)


@inlined
def _gru_step(
    like, how, flip, low, high, signal, gx, panels, recurrent, H, blocks, h, new_h, sums
):  # fmt: skip
    """signal: as in `_lstm_step`."""
    (exact, far), (x, x_step, inputs) = how, signal
    x += low * x_step
    lanes = lanes_in(like)
    size, wide, rows = 3 * lanes, blocks * lanes, high - low
    gx, h, new_h = gx + low * blocks * size, h + low * wide, new_h + low * wide
    matrix = recurrent + blocks * size
    together = max(1, _TOGETHER // max(1, rows))
    step = together * size
    for begin in range(0, blocks, together):
        end = min(blocks, begin + together)
        for n in range(begin, end):
            q = blocks - 1 - n if flip else n
            if x:
                _set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, 3, gx)
            bias, out = recurrent + q * size, sums + (n - begin) * size
            panel = matrix + q * size * H
            product_3(like, far, rows, h, wide, panel, H, bias, 0, out, step)
        for row in range(rows):
            for n in range(begin, end):
                q = blocks - 1 - n if flip else n
                g, a = gx + (row * blocks + q) * size, sums + row * step + (n - begin) * size
                at = row * wide + q * lanes
                where = (
                    g, g + lanes, g + 2 * lanes, a, a + lanes, a + 2 * lanes, h + at, new_h + at
                )  # fmt: skip
                if exact:
                    exact_gru_block(like, where)
                else:
                    gru_block(like, where)


@inlined
def _gru_reset_before_step(
    like, how, low, high, gx, panels, H, blocks, h, new_h, read, sums
):  # fmt: skip
    """read: room for r h and for z, as wide as two states."""
    exact, far = how
    lanes = lanes_in(like)
    size, wide, rows = 3 * lanes, blocks * lanes, high - low
    gx, h, new_h = gx + low * blocks * size, h + low * wide, new_h + low * wide
    z, step = read + rows * wide, blocks * size
    for q in range(blocks):
        panel = panels + 2 * q * lanes * H
        product_2(like, far, rows, h, wide, panel, H, gx + q * size, step, sums, size)
        for row in range(rows):
            a, at = sums + row * size, row * wide + q * lanes
            gated = a, a + lanes, h + at, read + at, z + at
            if exact:
                exact_gru_gates_block(like, gated)
            else:
                gru_gates_block(like, gated)
    panels += 2 * wide * H
    for q in range(blocks):
        start = gx + q * size + 2 * lanes
        product_1(like, far, rows, read, wide, panels + q * lanes * H, H, start, step, sums, size)
        for row in range(rows):
            at = row * wide + q * lanes
            where = sums + row * size, z + at, h + at, new_h + at
            if exact:
                exact_gru_update_block(like, where)
            else:
                gru_update_block(like, where)


@inlined
def at_work(t, lengths, rows):
    """The range of rows that take step t; between its ends some may not."""
    low, high = 0, rows
    while low < high and t >= integer_at(lengths + low):
        low += 1
    while low < high and t >= integer_at(lengths + high - 1):
        high -= 1
    return low, high


@inlined
def _run_recurrent(
    like, how, kind, flip, T, b, x, inputs, panels, H, reverse, lengths, states, last, room, y
):
    """One layer in one direction. `states` and `last`: addresses of h and c, before and after.

    how: whether activations are exact, and `far` of the products. flip: 1 or 0, whether the first
    step goes through the blocks backwards.
    """
    lanes = lanes_in(like)
    gates, count = (4, 2) if kind == _LSTM else (3, 1)
    blocks = _blocks(H, like)
    wide = blocks * lanes
    size = b * wide
    dense = _is_dense_in_kernel(lanes, gates, H, inputs)
    columns = _columns_in_kernel(lanes, gates, H, dense)
    recurrent = panels + columns * (1 + inputs)
    by_itself = T == 1 and kind != _GRU_RESET_BEFORE and not dense
    signal = (x[0], x[2], inputs) if by_itself else (0, 0, inputs)
    sums = room
    old = sums + max(_TOGETHER, b) * 4 * lanes
    new = old + 2 * size
    read = new + 2 * size
    gx = read + 2 * size
    chunk = max(1, _CHUNK // b)
    if dense:
        packed = gx + min(T, chunk) * b * blocks * gates * lanes
        clear(like, gx, packed - gx)  # the lanes past the last neuron stay 0
    else:
        packed = gx
    for n in range(count):
        for row in range(b):
            clear(like, old + n * size + row * wide, wide)
            copy(like, old + n * size + row * wide, states[n] + row * H, H)
    done = 0
    while done < T:
        steps = min(chunk, T - done)
        begin = T - done - steps if reverse else done
        if dense:
            part, to = (x[0] + begin * x[1], x[1], x[2]), (packed, b * gates * H, gates * H)
            _run_linear(like, how[1], steps, b, part, inputs, panels, gates * H, sums, to)
            _spread(like, steps * b, packed, blocks, gates, H, gx)
        elif not by_itself:
            _set_input_products(like, how[1], begin, steps, b, x, inputs, panels, blocks, gates, gx)
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            low, high = at_work(t, lengths, b) if lengths else (0, b)
            backwards = (step + flip) % 2 == 1
            own = gx + (t - begin) * b * blocks * gates * lanes
            if kind == _LSTM:
                _lstm_step(
                    like, how, backwards, low, high, signal, own, panels, recurrent, H, blocks, old,
                    new, old + size, new + size,
                )  # fmt: skip
            elif kind == _GRU:
                _gru_step(
                    like, how, backwards, low, high, signal, own, panels, recurrent, H, blocks, old,
                    new, sums,
                )  # fmt: skip
            else:
                _gru_reset_before_step(
                    like, how, low, high, own, recurrent, H, blocks, old, new, read, sums
                )
            for row in range(b):
                out = y[0] + t * y[1] + row * y[2]
                if lengths and t >= integer_at(lengths + row):  # the state waits
                    for n in range(count):
                        at = n * size + row * wide
                        copy(like, new + at, old + at, wide)
                    clear(like, out, H)
                else:
                    copy(like, out, new + row * wide, H)
            old, new = new, old
        done += steps
    for n in range(count):
        for row in range(b):
            copy(like, last[n] + row * H, old + n * size + row * wide, H)


@inlined
def _run_activation(like, exact, kind, T, b, x, width, y):
    for t in range(T):
        for row in range(b):
            source, out = x[0] + t * x[1] + row * x[2], y[0] + t * y[1] + row * y[2]
            for j in range(width):
                number = number_at(like, source + j)
                if kind == _TANH:
                    number = exact_tanh_of(number) if exact else tanh_of(number)
                elif kind == _SIGMOID:
                    number = exact_sigmoid_of(number) if exact else sigmoid_of(number)
                else:
                    number = relu_of(number)
                set_number(number, out + j)


def _room(lanes, widest, widest_state, T, b):
    """The numbers that a call with b sequences needs for itself.

    widest: the most that a layer but the last writes. widest_state: the most of one state, padded.
    """
    signals = 2 * T * b * widest
    layer = (6 * b + 2 * 4 * min(T * b, max(_CHUNK, b))) * widest_state
    return signals + layer + max(_TOGETHER, b) * 4 * lanes


_room_in_kernel = inlined(_room)


@inlined
def _memory_for(like, T, b, plan):
    room = _room_in_kernel(lanes_in(like), integer_at(plan + 1), integer_at(plan + 2), T, b)
    return np.empty(room, type_of(like))


@inlined
def _run(like, flip, first, last, T, B, plan, lengths, x, state, out, y_all, memory):
    """Take the sequences first..last-1 through all layers; all arguments are addresses.

    flip: as in `_run_recurrent`. plan: of `Program._plan`. lengths: of the numbers of steps, or 0.
    x (T, B, I), y_all (T, B, O). state and out begin with the arrays (B, H) of the state, one after
    the other; they may be the same, as every layer reads its own before it writes them. memory: as
    much as `_room` says.
    """
    rows, widest, parameters, table = (
        integer_at(plan), integer_at(plan + 1), integer_at(plan + 5), plan + _HEAD
    )  # fmt: skip
    exact, far = how = integer_at(plan + 3) == 1, integer_at(plan + 4) == 1
    b = last - first
    if lengths:
        lengths += first
    passed = T * b * widest
    room = memory + 2 * passed
    before, after = state, out
    width = integer_at(table + _INPUTS)
    signal = x + first * width, B * width, width
    which = 0
    for _ in range(rows):
        kind, inputs = integer_at(table + _KIND), integer_at(table + _INPUTS)
        outputs, width = integer_at(table + _OUTPUTS), integer_at(table + _WIDTH)
        own = parameters + integer_at(table + _START)
        if integer_at(table + _FINAL):
            y = y_all + first * width, B * width, width
        else:
            y = memory + which * passed, b * width, width
        part = y[0] + integer_at(table + _COLUMN), y[1], y[2]
        if kind <= _GRU_RESET_BEFORE:
            reverse, count, skip = integer_at(table + _REVERSE) == 1, B * outputs, first * outputs
            _run_recurrent(
                like, how, kind, flip, T, b, signal, inputs, own, outputs, reverse, lengths,
                (before + skip, before + count + skip), (after + skip, after + count + skip),
                room, part,
            )  # fmt: skip
            count *= 2 if kind == _LSTM else 1
            before, after = before + count, after + count
        elif kind == _LINEAR:
            _run_linear(like, far, T, b, signal, inputs, own, outputs, room, part)
        else:
            _run_activation(like, exact, kind, T, b, signal, inputs, part)
        if integer_at(table + _LAST):
            signal, which = y, 1 - which
        table += _COLUMNS


@inlined
def _in_order(x, T, B):
    """Whether x (T, B, I) is aligned and in order; a dimension of one has none, nor has nothing."""
    if x.size == 0:
        return True
    features = x.shape[2]
    row = features * x.itemsize
    return (
        aligned(x)
        and (features < 2 or x.strides[2] == x.itemsize)
        and (B < 2 or x.strides[1] == row)
        and (T < 2 or x.strides[0] == B * row)
    )


# These are also called past the check of what order x is in, see `entry`.
@kernel("i i i i i i r3 r1 w1 w3 -> b")
def _run_sequences(first, last, T, B, plan, lengths, x, state, out, y):
    """Returns whether the arrays are in order and aligned; otherwise nothing was done."""
    if not (_in_order(x, T, B) and aligned(state)):
        return False
    like = out.dtype.type(0)
    memory = _memory_for(like, T, last - first, plan)
    places = address(x), address(state), address(out), address(y), address(memory)
    _run(like, 0, first, last, T, B, plan, lengths, *places)
    keep(memory)
    return True


@kernel("i i r1 r1 w1 -> b")
def _run_step(size, plan, x, state, out):
    """One step of one sequence; y follows the state in out. Returns as `_run_sequences`."""
    if not (aligned(x) and aligned(state)) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    like = out.dtype.type(0)
    memory = _memory_for(like, 1, 1, plan)
    places = address(x), address(state), address(out), address(out) + size, address(memory)
    _run(like, 0, 0, 1, 1, 1, plan, 0, *places)
    keep(memory)
    return True


@kernel("i r1 -> b")
def _run_in_place(where, x):
    """One step of one sequence. Returns as `_run_sequences`, also False for a wrong size of x.

    Five integers are at `where`: which way through the blocks comes next, and the addresses of the
    plan, the state, y, and memory.
    """
    flip, plan, state = integer_at(where), integer_at(where + 1), integer_at(where + 2)
    if not aligned(x) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    if len(x) != integer_at(plan + _HEAD + _INPUTS):
        return False
    places = address(x), state, state, integer_at(where + 3), integer_at(where + 4)
    _run(x.dtype.type(0), flip, 0, 1, 1, 1, plan, 0, *places)
    set_number(1 - flip, where)
    return True


def _blocked(matrix: Array, gates: int) -> Array:
    """The rows of a matrix (gates * H, K) as blocks of panels, padded with zeros.

    A panel (K, gates, lanes) is cut into strips of gates: see `_lanes.strip_of`.
    """
    lanes = lanes_of(matrix.dtype)
    rows, depth = matrix.shape
    H = rows // gates
    blocks = -(-H // lanes)
    padded = np.zeros((gates, blocks * lanes, depth), matrix.dtype)
    padded[:, :H] = matrix.reshape(gates, H, depth)
    strip = strip_of(gates)
    strips = padded.reshape(gates // strip, strip, blocks, lanes, depth)
    blocked: Array = strips.transpose(2, 0, 4, 1, 3).ravel()
    return blocked


def _in_lines(parts: Sequence[Array]) -> Array:
    """All parts one after the other, from where a cache line begins.

    Blocks are whole vectors, so that no vector lies across two lines. If half of them did, reading
    weights from the second or third cache would take a quarter longer.
    """
    size, item = sum(part.size for part in parts), parts[0].itemsize
    memory = np.empty(size + LINE // item, parts[0].dtype)
    before = -memory.ctypes.data % LINE // item
    joined: Array = memory[before : before + size]
    np.concatenate(parts, out=joined)
    return joined


def _blocked_bias(bias: Array | None, matrix: Array, gates: int) -> Array:
    return _blocked((np.zeros(len(matrix), matrix.dtype) if bias is None else bias)[:, None], gates)


# What the packers return: the kind of a layer, the sizes of its state, and its parameters.
_Packed = tuple[int, tuple[int, ...], list[Array]]


def _packed_input(weight: Array, bias: Array | None, gates: int) -> list[Array]:
    rows, inputs = weight.shape
    if _is_dense(lanes_of(weight.dtype), gates, rows // gates, inputs):
        return _pack_linear(weight, bias)[2]
    return [_blocked_bias(bias, weight, gates), _blocked(weight, gates)]


def _pack_lstm(weight_ih: Array, weight_hh: Array, bias: Array | None) -> _Packed:
    H = weight_hh.shape[1]
    return _LSTM, (H, H), [*_packed_input(weight_ih, bias, 4), _blocked(weight_hh, 4)]


def _pack_gru(
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    bias_hn: Array | None,
    reset_after: bool,
) -> _Packed:
    H = weight_hh.shape[1]
    parts = _packed_input(weight_ih, bias, 3)
    if not reset_after:
        parts += [_blocked(weight_hh[: 2 * H], 2), _blocked(weight_hh[2 * H :], 1)]
        return _GRU_RESET_BEFORE, (H,), parts
    recurrent = np.zeros(3 * H, weight_hh.dtype)
    if bias_hn is not None:
        recurrent[2 * H :] = bias_hn
    parts += [_blocked_bias(recurrent, weight_hh, 3), _blocked(weight_hh, 3)]
    return _GRU, (H,), parts


def _pack_linear(weight: Array, bias: Array | None) -> _Packed:
    """Blocks of two vectors."""
    width = 2 * lanes_of(weight.dtype)
    padded = np.zeros((-(-len(weight) // width) * width, weight.shape[1] + 1), weight.dtype)
    padded[: len(weight), 1:] = weight
    if bias is not None:
        padded[: len(weight), 0] = bias
    blocks = padded.reshape(-1, width, padded.shape[1]).transpose(0, 2, 1)
    return _LINEAR, (), [blocks[:, 0].ravel(), blocks[:, 1:].ravel()]


_PACKERS: dict[str, Callable[..., _Packed]] = {
    "lstm": _pack_lstm,
    "gru": _pack_gru,
    "linear": _pack_linear,
}
_ACTIVATIONS = {"tanh": _TANH, "sigmoid": _SIGMOID, "relu": _RELU}


class Program:
    """A chain of layers that runs as one compiled call.

    `layers` lists them in order. A layer is a list of its directions, each with its parameters,
    all of one dtype, which are packed here:

        ("lstm", reverse, weight_ih, weight_hh, bias)     bias (4H,): the sum of both biases
        ("gru", reverse, weight_ih, weight_hh, bias, bias_hn, reset_after)     as in `gru_scan`
        ("linear", False, weight, bias)
        ("tanh", False), ("sigmoid", False), ("relu", False)

    A bias may be None. A call takes x (T, B, I), the state, and the sequences' numbers of steps
    (B,) or None; it returns y (T, B, O) and the new state, in memory of their own. A state is a
    flat array that begins with the arrays (B, H) whose H stand in `state_sizes` (for each recurrent
    layer and direction h, and c of an LSTM), one after the other. Arrays of another dtype, not in
    order (C) or not aligned raise a TypeError.

    With `exact`, float32 activations come from the library's float64 functions; without, they are
    within 4 units in the last place.

    >>> rng = np.random.default_rng(0)
    >>> weight_ih, weight_hh = rng.standard_normal((2, 8, 2))
    >>> lstm = "lstm", False, weight_ih, weight_hh, None
    >>> program = Program([[lstm], [("linear", False, np.ones((1, 2)), None)]])
    >>> y, state = program(np.ones((3, 1, 2)), np.zeros(program.state_size))
    >>> h, c = np.split(state, 2)
    >>> program.state_sizes, bool(np.isclose(y[-1, 0, 0], h.sum()))
    ((2, 2), True)
    """

    def __init__(self, layers: Sequence[Sequence[tuple[Any, ...]]], exact: bool = False) -> None:
        weights = [end[2] for layer in layers for end in layer if len(end) > 2]
        check(weights, "`layers` have no weights; at least one layer must have some")
        self.dtype: np.dtype[Any] = weights[0].dtype
        self.input_size = width = int(weights[0].shape[1])
        self.state_sizes: tuple[int, ...] = ()
        table, packed, start, widest, widest_state = [], [], 0, 0, 0
        for depth, layer in enumerate(layers):
            final, column, rows = depth == len(layers) - 1, 0, []
            for kind, reverse, *given in layer:
                parts: list[Array] = []
                if kind in _PACKERS:
                    check_arrays(**{f"{kind} weight": (given[0], (len(given[0]), width))})
                    code, sizes, parts = _PACKERS[kind](*given)
                    outputs = sizes[0] if sizes else len(given[0])
                else:
                    code, sizes, outputs = _ACTIVATIONS[kind], (), width
                rows.append([code, width, outputs, start, reverse, column, 0, 0, final])
                start += sum(part.size for part in parts)
                packed += parts
                self.state_sizes += sizes
                widest_state = max(widest_state, *sizes, 0)
                column += outputs
            rows[-1][_LAST] = 1
            for row in rows:
                row[_WIDTH] = column
            table += rows
            width = column
            widest = max(widest, 0 if final else width)
        self.output_size = width
        self.state_size = sum(self.state_sizes)
        self._parameters = _in_lines(packed)
        start = self._parameters.ctypes.data // self._parameters.itemsize
        lanes = lanes_of(self.dtype)
        widest_state = -(-widest_state // lanes) * lanes
        far = self._parameters.nbytes > NEAR
        head = [len(table), widest, widest_state, exact, far, start]
        self._plan = np.concatenate([np.array(head), np.ravel(table)]).astype(np.int64)
        self._single = LEAST_WORK // (self._parameters.size + STEP_WORK)
        self._address = self._plan.ctypes.data // self._plan.itemsize
        self._run, self._run_step = _run_sequences(self.dtype), _run_step(self.dtype)
        self.step_size = self.state_size + self.output_size
        self.place_size = self.step_size + _room(lanes, widest, widest_state, 1, 1)

    def __reduce__(self) -> Any:
        raise TypeError("a program cannot be copied: it holds addresses of its memory")

    def __call__(self, x: Array, state: Array, lengths: Array | None = None) -> tuple[Array, Array]:
        T, B, inputs = x.shape
        if inputs != self.input_size or len(state) < B * self.state_size:
            raise self._mismatch(x, state)
        y = np.empty((T, B, self.output_size), self.dtype)
        out = np.empty(B * self.state_size, self.dtype)
        where = 0 if lengths is None else lengths.ctypes.data // lengths.itemsize
        arguments = T, B, self._address, where, x, state, out, y
        if self._single > T * B:
            done = self._run(0, B, *arguments)
        else:
            done = share(self._run, T, B, self._parameters.size, *arguments)
        if not done:
            raise TypeError("`x` or `state` is not aligned")
        return y, out

    def step(self, x: Array, state: Array) -> Array:
        """One step of one sequence x (I,): the new state and y in one array."""
        if len(x) != self.input_size or len(state) < self.state_size:
            raise self._mismatch(x, state)
        out = np.empty(self.step_size, self.dtype)
        if not self._run_step(self.state_size, self._address, x, state, out):
            raise TypeError("`x` or `state` is not aligned")
        return out

    def bare_step(self) -> tuple[Callable[..., bool], int, int]:
        """A function and two arguments that come before (x, state, out): `step`, with fewer checks.

        The three are arrays of the program's dtype, of one dimension and of the right sizes; out
        holds the new state and y. It returns whether it was done: not if x is not in order or
        aligned. The addresses are those of the program's memory, so it must be kept.
        """
        return entry(self._run_step), self.state_size, self._address

    def bare_in_place(self, place: Array) -> tuple[Callable[..., bool], int, Any]:
        """A function and an argument that comes before x: a step as `bare_step`, whose state, y and
        memory are those of `place`, of `place_size` numbers: they begin with the state, then y.

        It also returns False for an x (I,) of a wrong size. The third is to be kept as well.
        """
        brief = self._parameters.nbytes <= _BRIEF
        state = place.ctypes.data // place.itemsize
        places = state, state + self.state_size, state + self.step_size
        where = np.array([0, self._address, *places])
        function = entry(_run_in_place(self.dtype, nogil=not brief))
        return function, where.ctypes.data // where.itemsize, (self, place, where)

    def bare_call(self) -> tuple[Callable[..., bool], int, int]:
        """A function, an argument of it and a number: a call without lengths, with fewer checks.

        The function takes (0, B, T, B, argument, 0, x, state, out, y) and is as that of
        `bare_step`; x is (T, B, I). T B is to be below the number: then one thread is enough.
        """
        return entry(self._run), self._address, self._single

    def _mismatch(self, x: Array, state: Array) -> L0GateError:
        return L0GateError(
            f"`x` has shape {x.shape} and `state` {state.shape}; expected {self.input_size} "
            f"features and for each sequence {self.state_size} numbers"
        )
