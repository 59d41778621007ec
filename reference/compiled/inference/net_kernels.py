# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Whole nets as one compiled call: sequences, a step, and a step that updates its state in place.

The plan of `Program` tells which layers there are. Threads share a call by sequences: each takes
its own through all layers and time steps.
"""

from __future__ import annotations

import numpy as np

from l0gate.reference.compiled.compile import inlined, kernel
from l0gate.reference.compiled.inference.feedforward_kernels import (
    TOGETHER,
    run_activation,
    run_linear,
)
from l0gate.reference.compiled.inference.plan import (
    COLUMN,
    COLUMNS,
    EXACT,
    FAR,
    FINAL,
    GRU_RESET_BEFORE,
    HEAD,
    INPUTS,
    KIND,
    LAST,
    LINEAR,
    LSTM,
    OUTPUTS,
    PARAMETERS,
    REVERSE,
    ROWS,
    START,
    WIDEST,
    WIDEST_STATE,
    WIDTH,
)
from l0gate.reference.compiled.inference.step_kernels import CHUNK, run_recurrent
from l0gate.reference.compiled.simd.memory import (
    address,
    aligned,
    integer_at,
    keep,
    lanes_in,
    set_number,
    type_of,
)


def workspace_size(lanes: int, widest: int, widest_state: int, T: int, b: int) -> int:
    """How many numbers of memory a call with T steps and b sequences needs.

    lanes: of a vector register. widest, widest_state: as in the head of the plan.
    """
    signals = 2 * T * b * widest
    layer = (6 * b + 2 * 4 * min(T * b, max(CHUNK, b))) * widest_state
    return signals + layer + max(TOGETHER, b) * 4 * lanes


_workspace_size_in_kernel = inlined(workspace_size)


@inlined
def _workspace_for(like, T, b, plan):
    """New memory for a call with T steps and b sequences."""
    widest, widest_state = integer_at(plan + WIDEST), integer_at(plan + WIDEST_STATE)
    size = _workspace_size_in_kernel(lanes_in(like), widest, widest_state, T, b)
    return np.empty(size, type_of(like))


@inlined
def _run(like, flip, first, last, T, B, plan, lengths, x, state, out, y_all, workspace):
    """Take the sequences first..last-1 through all layers; all arguments are addresses.

    flip: as in `run_recurrent`. lengths: the address of the numbers of steps (B,), or 0.
    x (T, B, I), y_all (T, B, O). state and out begin with the arrays (B, H) of the state, one after
    the other; they may be the same memory, since every layer reads its state before it writes it.
    workspace: memory of `workspace_size` numbers.
    """
    rows, widest, parameters, table = (
        integer_at(plan + ROWS), integer_at(plan + WIDEST), integer_at(plan + PARAMETERS),
        plan + HEAD,
    )  # fmt: skip
    exact, far = how = integer_at(plan + EXACT) == 1, integer_at(plan + FAR) == 1
    b = last - first
    if lengths:
        lengths += first
    passed = T * b * widest
    scratch = workspace + 2 * passed
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
            y = workspace + which * passed, b * width, width
        part = y[0] + integer_at(table + COLUMN), y[1], y[2]
        if kind <= GRU_RESET_BEFORE:
            reverse, count, skip = integer_at(table + REVERSE) == 1, B * outputs, first * outputs
            run_recurrent(
                like, how, kind, flip, T, b, signal, inputs, own, outputs, reverse, lengths,
                (before + skip, before + count + skip), (after + skip, after + count + skip),
                scratch, part,
            )  # fmt: skip
            count *= 2 if kind == LSTM else 1
            before, after = before + count, after + count
        elif kind == LINEAR:
            run_linear(like, far, T, b, signal, inputs, own, outputs, scratch, part)
        else:
            run_activation(like, exact, kind, T, b, signal, inputs, part)
        if integer_at(table + LAST):
            signal, which = y, 1 - which
        table += COLUMNS


@inlined
def _in_order(x, T, B):
    """Whether x (T, B, I) is aligned and in C order.

    The stride of a dimension of size 1 does not matter, and an empty array is always in order.
    """
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


# With `entry` these are called without numba's check of the order in memory, so they check it.
@kernel("i i i i i i r3 r1 w1 w3 -> b")
def run_sequences(first, last, T, B, plan, lengths, x, state, out, y):
    """Returns False, and does nothing, unless x is in C order and x and state are aligned."""
    if not (_in_order(x, T, B) and aligned(state)):
        return False
    like = out.dtype.type(0)
    workspace = _workspace_for(like, T, last - first, plan)
    addresses = address(x), address(state), address(out), address(y), address(workspace)
    _run(like, 0, first, last, T, B, plan, lengths, *addresses)
    keep(workspace)
    return True


@kernel("i i r1 r1 w1 -> b")
def run_step(size, plan, x, state, out):
    """One step of one sequence; y comes after the state in out. Returns as `run_sequences`."""
    if not (aligned(x) and aligned(state)) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    like = out.dtype.type(0)
    workspace = _workspace_for(like, 1, 1, plan)
    addresses = address(x), address(state), address(out), address(out) + size, address(workspace)
    _run(like, 0, 0, 1, 1, 1, plan, 0, *addresses)
    keep(workspace)
    return True


@kernel("i r1 -> b")
def run_in_place(where, x):
    """One step of one sequence that updates its state in place.

    At the address `where` are five integers: `flip` of the next step, and the addresses of the
    plan, the state, y and the workspace. Returns as `run_sequences`; False also if x has another
    size than the net reads.
    """
    flip, plan, state = integer_at(where), integer_at(where + 1), integer_at(where + 2)
    if not aligned(x) or (len(x) > 1 and x.strides[0] != x.itemsize):
        return False
    if len(x) != integer_at(plan + HEAD + INPUTS):
        return False
    addresses = address(x), state, state, integer_at(where + 3), integer_at(where + 4)
    _run(x.dtype.type(0), flip, 0, 1, 1, 1, plan, 0, *addresses)
    set_number(1 - flip, where)
    return True
