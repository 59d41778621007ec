# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""One layer in one direction, over sequences or a step, at addresses in compiled code.

Weights lie in *blocks*, one for as many neurons as a vector register holds: all gates of these
neurons side by side. A tile of products then leaves all that is needed to update them in registers,
and nothing is written but the states. Per chunk of time steps, the input product comes first, for
all steps at once; then step by step the recurrent one.
"""

from __future__ import annotations

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.lanes import (
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
    lanes_in,
    lstm_block,
    number_at,
    product_1,
    product_2,
    product_3,
    product_4,
    relu_of,
    set_number,
    sigmoid_of,
    tanh_of,
)

LSTM, GRU, GRU_RESET_BEFORE, LINEAR, TANH, SIGMOID, RELU = range(7)
TOGETHER = 32  # rows times blocks whose products come before their activations
_MANY = 64  # inputs, so that their product takes longer than to spread it
CHUNK = 96  # rows of an input product, so that weights are read seldom and results stay in cache


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
def run_linear(like, far, T, b, x, inputs, panels, outputs, room, y):
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
            for row in range(0, b, TOGETHER):
                rows = min(TOGETHER, b - row)
                place = source + row * x_b
                product_2(like, far, rows, place, x_b, panel, inputs, bias, 0, room, size)
                for r in range(rows):
                    copy(like, out + (row + r) * y_b, room + r * size, columns)


# A block of few neurons is mostly empty where vectors are wide. A layer with many inputs then has
# its input matrix packed like that of a linear layer, and the product is spread over the blocks.


def is_dense(lanes: int, gates: int, H: int, inputs: int) -> bool:
    blocks = (H + lanes - 1) // lanes
    least = (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return inputs >= _MANY and 5 * least <= 4 * gates * blocks * lanes


def columns_of(lanes: int, gates: int, H: int, dense: bool) -> int:
    """Of the packed input matrix."""
    if dense:
        return (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return gates * ((H + lanes - 1) // lanes) * lanes


_is_dense_in_kernel, _columns_in_kernel = inlined(is_dense), inlined(columns_of)


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
    together = max(1, TOGETHER // max(1, rows))
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
    together = max(1, TOGETHER // max(1, rows))
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
def run_recurrent(
    like, how, kind, flip, T, b, x, inputs, panels, H, reverse, lengths, states, last, room, y
):
    """One layer in one direction. `states` and `last`: addresses of h and c, before and after.

    how: whether activations are exact, and `far` of the products. flip: 1 or 0, whether the first
    step goes through the blocks backwards.
    """
    lanes = lanes_in(like)
    gates, count = (4, 2) if kind == LSTM else (3, 1)
    blocks = _blocks(H, like)
    wide = blocks * lanes
    size = b * wide
    dense = _is_dense_in_kernel(lanes, gates, H, inputs)
    columns = _columns_in_kernel(lanes, gates, H, dense)
    recurrent = panels + columns * (1 + inputs)
    by_itself = T == 1 and kind != GRU_RESET_BEFORE and not dense
    signal = (x[0], x[2], inputs) if by_itself else (0, 0, inputs)
    sums = room
    old = sums + max(TOGETHER, b) * 4 * lanes
    new = old + 2 * size
    read = new + 2 * size
    gx = read + 2 * size
    chunk = max(1, CHUNK // b)
    if dense:
        packed = gx + min(T, chunk) * b * blocks * gates * lanes
        clear(like, gx, packed - gx)  # no lane past the last neuron holds a NaN by chance
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
            run_linear(like, how[1], steps, b, part, inputs, panels, gates * H, sums, to)
            _spread(like, steps * b, packed, blocks, gates, H, gx)
        elif not by_itself:
            _set_input_products(like, how[1], begin, steps, b, x, inputs, panels, blocks, gates, gx)
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            low, high = at_work(t, lengths, b) if lengths else (0, b)
            backwards = (step + flip) % 2 == 1
            own = gx + (t - begin) * b * blocks * gates * lanes
            if kind == LSTM:
                _lstm_step(
                    like, how, backwards, low, high, signal, own, panels, recurrent, H, blocks, old,
                    new, old + size, new + size,
                )  # fmt: skip
            elif kind == GRU:
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
def run_activation(like, exact, kind, T, b, x, width, y):
    for t in range(T):
        for row in range(b):
            source, out = x[0] + t * x[1] + row * x[2], y[0] + t * y[1] + row * y[2]
            for j in range(width):
                number = number_at(like, source + j)
                if kind == TANH:
                    number = exact_tanh_of(number) if exact else tanh_of(number)
                elif kind == SIGMOID:
                    number = exact_sigmoid_of(number) if exact else sigmoid_of(number)
                else:
                    number = relu_of(number)
                set_number(number, out + j)
