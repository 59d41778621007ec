# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Whole nets as one compiled call: what runs from the plan that `Program` makes.

Threads share a call by sequences: each takes its rows through all layers and time steps, so that
nothing waits inside the loop over time.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference.compiled.compile import inlined, kernel
from l0gate.reference.compiled.inference.layers import (
    CHUNK,
    GRU_RESET_BEFORE,
    LINEAR,
    LSTM,
    TOGETHER,
    run_activation,
    run_linear,
    run_recurrent,
)
from l0gate.reference.compiled.simd.lanes import (
    address,
    aligned,
    integer_at,
    keep,
    lanes_in,
    set_number,
    type_of,
)

# The columns of a row of the table, one row for each layer and direction: its kind, how many
# features it reads and writes, where its parameters begin, whether it runs backward in time, where
# its outputs begin among all those of its layer, how many these are, whether it is the last
# direction, and whether its layer is the last.
KIND, INPUTS, OUTPUTS, START, REVERSE, COLUMN, WIDTH, LAST, FINAL = range(9)
COLUMNS = 9
HEAD = 6  # before the rows: see `Program`


def room_for(lanes: int, widest: int, widest_state: int, T: int, b: int) -> int:
    """The numbers that a call with b sequences needs for itself.

    widest: the most that a layer but the last writes. widest_state: the most of one state, padded.
    """
    signals = 2 * T * b * widest
    layer = (6 * b + 2 * 4 * min(T * b, max(CHUNK, b))) * widest_state
    return signals + layer + max(TOGETHER, b) * 4 * lanes


_room_in_kernel = inlined(room_for)


@inlined
def _memory_for(like, T, b, plan):
    room = _room_in_kernel(lanes_in(like), integer_at(plan + 1), integer_at(plan + 2), T, b)
    return np.empty(room, type_of(like))


@inlined
def _run(like, flip, first, last, T, B, plan, lengths, x, state, out, y_all, memory):
    """Take the sequences first..last-1 through all layers; all arguments are addresses.

    flip: as in `run_recurrent`. plan: of `Program._plan`. lengths: of the numbers of steps, or 0.
    x (T, B, I), y_all (T, B, O). state and out begin with the arrays (B, H) of the state, one after
    the other; they may be the same, as every layer reads its own before it writes them. memory: as
    much as `room_for` says.
    """
    rows, widest, parameters, table = (
        integer_at(plan), integer_at(plan + 1), integer_at(plan + 5), plan + HEAD
    )  # fmt: skip
    exact, far = how = integer_at(plan + 3) == 1, integer_at(plan + 4) == 1
    b = last - first
    if lengths:
        lengths += first
    passed = T * b * widest
    room = memory + 2 * passed
    before, after = state, out
    width = integer_at(table + INPUTS)
    signal = x + first * width, B * width, width
    which = 0
    for _ in range(rows):
        kind, inputs = integer_at(table + KIND), integer_at(table + INPUTS)
        outputs, width = integer_at(table + OUTPUTS), integer_at(table + WIDTH)
        own = parameters + integer_at(table + START)
        if integer_at(table + FINAL):
            y = y_all + first * width, B * width, width
        else:
            y = memory + which * passed, b * width, width
        part = y[0] + integer_at(table + COLUMN), y[1], y[2]
        if kind <= GRU_RESET_BEFORE:
            reverse, count, skip = integer_at(table + REVERSE) == 1, B * outputs, first * outputs
            run_recurrent(
                like, how, kind, flip, T, b, signal, inputs, own, outputs, reverse, lengths,
                (before + skip, before + count + skip), (after + skip, after + count + skip),
                room, part,
            )  # fmt: skip
            count *= 2 if kind == LSTM else 1
            before, after = before + count, after + count
        elif kind == LINEAR:
            run_linear(like, far, T, b, signal, inputs, own, outputs, room, part)
        else:
            run_activation(like, exact, kind, T, b, signal, inputs, part)
        if integer_at(table + LAST):
            signal, which = y, 1 - which
        table += COLUMNS


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
def run_sequences(first, last, T, B, plan, lengths, x, state, out, y):
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
def run_step(size, plan, x, state, out):
    """One step of one sequence; y follows the state in out. Returns as `run_sequences`."""
    if not (aligned(x) and aligned(state)) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    like = out.dtype.type(0)
    memory = _memory_for(like, 1, 1, plan)
    places = address(x), address(state), address(out), address(out) + size, address(memory)
    _run(like, 0, 0, 1, 1, 1, plan, 0, *places)
    keep(memory)
    return True


@kernel("i r1 -> b")
def run_in_place(where, x):
    """One step of one sequence. Returns as `run_sequences`, also False for a wrong size of x.

    Five integers are at `where`: which way through the blocks comes next, and the addresses of the
    plan, the state, y, and memory.
    """
    flip, plan, state = integer_at(where), integer_at(where + 1), integer_at(where + 2)
    if not aligned(x) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    if len(x) != integer_at(plan + HEAD + INPUTS):
        return False
    places = address(x), state, state, integer_at(where + 3), integer_at(where + 4)
    _run(x.dtype.type(0), flip, 0, 1, 1, 1, plan, 0, *places)
    set_number(1 - flip, where)
    return True
