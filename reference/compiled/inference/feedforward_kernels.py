# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Linear layers, activations, and the input products of recurrent layers.

They compute each time step independently of the others. Arrays are given by their addresses: see
`simd/memory.py`. A *signal* is an array (T, B, features), given as a tuple: its address, the
distance between time steps, and the distance between sequences.
"""

from __future__ import annotations

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.inference.plan import SIGMOID, TANH
from l0gate.reference.compiled.simd.activations import (
    exact_sigmoid_of,
    exact_tanh_of,
    relu_of,
    sigmoid_of,
    tanh_of,
)
from l0gate.reference.compiled.simd.memory import copy, lanes_in, number_at, set_number
from l0gate.reference.compiled.simd.tiles import product_2, product_3, product_4

TOGETHER = 32  # rows, or rows times blocks, whose products are computed before they are used
_MANY = 64  # inputs; from here on packing densely is faster, despite the copying to blocks


@inlined
def set_input_product(like, far, q, rows, x, x_step, inputs, panels, blocks, gates, gx):
    """Set block q of gx (rows, blocks, gates, lanes) to bias + x @ matrix, for x (rows, inputs).

    x_step is the distance between rows of x. panels holds the packed bias, then the packed matrix.
    """
    size = gates * lanes_in(like)
    bias, out, step = panels + q * size, gx + q * size, blocks * size
    panel = panels + (blocks + q * inputs) * size
    if gates == 4:
        product_4(like, far, rows, x, x_step, panel, inputs, bias, 0, out, step)
    else:
        product_3(like, far, rows, x, x_step, panel, inputs, bias, 0, out, step)


@inlined
def set_input_products(like, far, t, steps, b, x, inputs, panels, blocks, gates, gx):
    """Run `set_input_product` for all blocks, for time steps t..t+steps-1 of the signal x.

    The result is written to gx (steps, b, blocks, gates, lanes); b is the number of sequences.
    """
    x, x_t, x_b = x
    rows, runs = b, steps
    if x_t == b * x_b or b == 1:  # all rows are at the same distance
        rows, runs = b * steps, 1
        if b == 1:
            x_b = x_t
    for q in range(blocks):
        for run in range(runs):
            source, out = x + (t + run) * x_t, gx + run * rows * blocks * gates * lanes_in(like)
            set_input_product(like, far, q, rows, source, x_b, inputs, panels, blocks, gates, out)


@inlined
def run_linear(like, far, T, b, x, inputs, panels, outputs, scratch, y):
    """y (T, b, outputs) = x (T, b, inputs) @ matrix + bias; x and y are signals.

    panels holds the packed bias, then the packed matrix. scratch is unused memory for TOGETHER rows
    of 2 * lanes numbers each.
    """
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
                part = source + row * x_b
                product_2(like, far, rows, part, x_b, panel, inputs, bias, 0, scratch, size)
                for r in range(rows):
                    copy(like, out + (row + r) * y_b, scratch + r * size, columns)


# In a recurrent layer with few neurons, most of a block of weights may be padding. If such a layer
# has many inputs, its input matrix is packed without this padding, as that of a linear layer, and
# the product is copied to the blocks.


def is_dense(lanes: int, gates: int, H: int, inputs: int) -> bool:
    """Whether the input matrix (gates * H, inputs) of a recurrent layer is packed densely."""
    blocks = (H + lanes - 1) // lanes
    least = (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return inputs >= _MANY and 5 * least <= 4 * gates * blocks * lanes


def columns_of(lanes: int, gates: int, H: int, dense: bool) -> int:
    """The number of columns of the packed input matrix of a recurrent layer."""
    if dense:
        return (gates * H + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    return gates * ((H + lanes - 1) // lanes) * lanes


is_dense_in_kernel, columns_in_kernel = inlined(is_dense), inlined(columns_of)


@inlined
def spread_over_blocks(like, rows, packed, blocks, gates, H, gx):
    """Copy packed (rows, gates, H) to gx (rows, blocks, gates, lanes)."""
    lanes = lanes_in(like)
    for row in range(rows):
        for gate in range(gates):
            source = packed + (row * gates + gate) * H
            to = gx + (row * blocks * gates + gate) * lanes
            for q in range(blocks):
                at = q * lanes
                copy(like, to + gates * at, source + at, min(lanes, H - at))


@inlined
def run_activation(like, exact, kind, T, b, x, width, y):
    """y (T, b, width) = f(x), where `kind` is TANH, SIGMOID or RELU; x and y are signals."""
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
