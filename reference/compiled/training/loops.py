# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Elementwise loops over the neurons of one sequence; all arrays are (n,).

Each loop uses few arrays. With more of them, LLVM cannot prove that they do not overlap, and does
not vectorise the loop. Assignments to slices would take numba seconds to compile.
"""

from __future__ import annotations

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.activations import sigmoid_of, tanh_of


@inlined
def set_sigmoid(y, x):
    """y = sigmoid(x)."""
    for j in range(len(y)):
        y[j] = sigmoid_of(x[j])


@inlined
def set_tanh(y, x):
    """y = tanh(x)."""
    for j in range(len(y)):
        y[j] = tanh_of(x[j])


@inlined
def set_to(y, x):
    """Copy the first len(y) numbers of x to y."""
    for j in range(len(y)):
        y[j] = x[j]


@inlined
def set_zero(y):
    """Set all numbers of y to 0."""
    for j in range(len(y)):
        y[j] = 0


@inlined
def set_product(out, x, y):
    """out = x y."""
    for j in range(len(out)):
        out[j] = x[j] * y[j]
