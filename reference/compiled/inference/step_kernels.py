# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""The time steps of a recurrent layer: LSTM and GRU, in one direction, in compiled code.

Neurons are grouped into *blocks* of as many neurons as a vector register holds. The weights of all
gates of a block lie side by side in memory. So one matrix product gives all pre-activations of the
block, and its neurons can be updated at once. The input product is computed for a chunk of time
steps at once; the recurrent product follows step by step. Arrays are given by their addresses: see
`simd/memory.py`.

Arguments of most functions: `like`, a number of the dtype. `how`, the pair (exact, far): whether
activations are exact, and whether the weights of the net exceed the second-level cache (`NEAR`).
`lanes` is the number of neurons of a block.
"""

from __future__ import annotations

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.inference.feedforward_kernels import (
    TOGETHER,
    columns_in_kernel,
    is_dense_in_kernel,
    run_linear,
    set_input_product,
    set_input_products,
    spread_over_blocks,
)
from l0gate.reference.compiled.inference.plan import GRU, GRU_RESET_BEFORE, LSTM
from l0gate.reference.compiled.lengths import active_rows
from l0gate.reference.compiled.simd.cells import (
    exact_gru_block,
    exact_gru_gates_block,
    exact_gru_update_block,
    exact_lstm_block,
    gru_block,
    gru_gates_block,
    gru_update_block,
    lstm_block,
)
from l0gate.reference.compiled.simd.memory import clear, copy, integer_at, lanes_in
from l0gate.reference.compiled.simd.tiles import product_1, product_2, product_3, product_4

CHUNK = 96  # rows of an input product: many, to read weights seldom, but few enough for the cache


@inlined
def _blocks(count, like):
    """How many blocks `count` neurons fill; a block has as many neurons as a register has lanes."""
    lanes = lanes_in(like)
    return (count + lanes - 1) // lanes


# A step computes the products of several blocks before their activations, so that activations do
# not wait for a product. With many rows it takes fewer blocks at a time, so that the sums stay in
# the cache. Every second step takes the blocks in reverse order, because the weights that were read
# last are still cached. If there is only one time step, the input product of a block is computed
# together with its recurrent product.


@inlined
def _lstm_step(
    like, how, flip, low, high, signal, gx, panels, matrix, H, blocks, h, new_h, c, new_c
):  # fmt: skip
    """Compute new h and c of the rows low..high-1 from the old ones and gx (rows, blocks, 4,
    lanes).

    Rows are sequences. flip: whether to take the blocks in reverse order. signal: the address of x
    (rows, I), the distance between its rows, and I; the address is 0 if gx holds the input product
    already. panels, matrix: the packed input parameters and the packed `weight_hh`. States have the
    shape (rows, blocks, lanes).
    """
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
                set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, 4, gx)
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
    """Compute new h of the rows low..high-1, with reset_after; arguments as in `_lstm_step`.

    recurrent: the packed recurrent biases, then `weight_hh`. sums: workspace for the products.
    """
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
                set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, 3, gx)
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
    """Compute new h of the rows low..high-1, without reset_after; gx holds the input product.

    panels: the packed r and z gates of `weight_hh`, then its n gate. read: workspace for r h and z,
    as large as two states. sums: workspace for the products.
    """
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
def run_recurrent(
    like, how, kind, flip, T, b, x, inputs, panels, H, reverse, lengths, states, last, workspace, y
):
    """Run a recurrent layer in one direction on the signal x (T, b, inputs), into y (T, b, H).

    kind: LSTM, GRU or GRU_RESET_BEFORE. flip: 1 if the first step takes the blocks in reverse
    order, else 0. panels: the packed parameters. lengths: the address of the numbers of steps (b,),
    or 0. states, last: the addresses of the initial and of the final state, h (b, H) and for an
    LSTM c. workspace: the address of unused memory, see `workspace_size`.
    """
    lanes = lanes_in(like)
    gates, count = (4, 2) if kind == LSTM else (3, 1)
    blocks = _blocks(H, like)
    wide = blocks * lanes
    size = b * wide
    dense = is_dense_in_kernel(lanes, gates, H, inputs)
    columns = columns_in_kernel(lanes, gates, H, dense)
    recurrent = panels + columns * (1 + inputs)
    by_itself = T == 1 and kind != GRU_RESET_BEFORE and not dense
    signal = (x[0], x[2], inputs) if by_itself else (0, 0, inputs)
    sums = workspace
    old = sums + max(TOGETHER, b) * 4 * lanes
    new = old + 2 * size
    read = new + 2 * size
    gx = read + 2 * size
    chunk = max(1, CHUNK // b)
    if dense:
        packed = gx + min(T, chunk) * b * blocks * gates * lanes
        clear(like, gx, packed - gx)  # the padding of a block must not hold a NaN
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
            spread_over_blocks(like, steps * b, packed, blocks, gates, H, gx)
        elif not by_itself:
            set_input_products(like, how[1], begin, steps, b, x, inputs, panels, blocks, gates, gx)
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            low, high = active_rows(t, lengths, b) if lengths else (0, b)
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
                if lengths and t >= integer_at(lengths + row):  # padding: the state stays as it is
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
