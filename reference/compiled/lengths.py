# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Sequences of different lengths: their numbers of steps, and which are active at a step."""

from __future__ import annotations

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._scan import Array
from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.memory import integer_at


def step_counts(lengths: Array | None, T: int, B: int) -> Array:
    """The number of steps of every sequence, int64 (B,): `lengths`, or T for all of them."""
    if lengths is None:
        return np.full(B, T, np.int64)
    counts = np.ascontiguousarray(lengths, np.int64)
    if counts.shape != (B,):
        raise L0GateError(f"`lengths` has shape {counts.shape}; expected {(B,)}")
    if B and not (counts.min() >= 0 and counts.max() <= T):
        raise L0GateError(f"`lengths` is {counts}; each must be within 0..{T}")
    return counts


@inlined
def active_rows(t, lengths, rows):
    """The smallest range low..high-1 of rows that contains all active ones, t < lengths[row].

    `lengths` is the address of an array (rows,). The range may contain inactive rows too.
    """
    low, high = 0, rows
    while low < high and t >= integer_at(lengths + low):
        low += 1
    while low < high and t >= integer_at(lengths + high - 1):
        high -= 1
    return low, high
