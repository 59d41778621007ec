# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Kernels that run a whole net: on sequences, for one step, and for one step in place.

In place means that the step overwrites the state. The `plan` (see `plan.py`) lists the layers. A
call runs a part of the sequences through all layers and time steps, so that threads can divide a
batch. `like` and `how` are as in `step_kernels.py`; a *signal* is as in `feedforward_kernels.py`.
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
    """How many numbers the workspace holds that a call with T steps and b sequences needs.

    lanes is how many numbers a vector register holds. widest and widest_state are the entries
    WIDEST and WIDEST_STATE in the head of the plan (see `plan.py`).
    """
    signals = 2 * T * b * widest
    layer = (6 * b + 2 * 4 * min(T * b, max(CHUNK, b))) * widest_state
    return signals + layer + max(TOGETHER, b) * 4 * lanes


_workspace_size_in_kernel = inlined(workspace_size)


@inlined
def _workspace_for(like, T, b, plan):
    """A new workspace for a call with T steps and b sequences."""
    widest, widest_state = integer_at(plan + WIDEST), integer_at(plan + WIDEST_STATE)
    size = _workspace_size_in_kernel(lanes_in(like), widest, widest_state, T, b)
    return np.empty(size, type_of(like))


@inlined
def _run(like, flip, first, last, T, B, plan, lengths, x, state, out, y_all, workspace):
    """Run the sequences first..last-1 through all layers.

    Arrays are given by their addresses. x (T, B, I) is the input; y_all (T, B, O) is written.
    lengths: the numbers of steps (B,), or 0. state holds the arrays (B, H) of the initial state one
    after the other; the final state is written to out in the same form. Both may be the same
    memory, since every layer reads its state before it writes it. flip: as in `run_recurrent`.
    workspace: `workspace_size` numbers.
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


# `entry` calls the next three kernels without numba's check that arrays are in C order and aligned,
# so they check it themselves.
@kernel("i i i i i i r3 r1 w1 w3 -> b")
def run_sequences(first, last, T, B, plan, lengths, x, state, out, y):
    """Run the sequences first..last-1 of x (T, B, I); arguments as in `_run`.

    Returns True, or does nothing and returns False if x is not in C order or x or state not
    aligned.
    """
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
    """Run one step of one sequence x (I,). Returns True or False as `run_sequences`.

    The new state (size,) is written to the beginning of out, and y after it.
    """
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
    """Run one step of one sequence x (I,) and overwrite its state.

    At the address `where` are five integers: `flip` of the next step, and the addresses of the
    plan, the state, y and the workspace. Returns True, or does nothing and returns False if x is
    not in C order, not aligned, or not of the net's input size.
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
