# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Activation functions in generated code: sigmoid, tanh, their product, and ReLU.

The float32 functions use one polynomial for expm1. On [-20, 20], sigmoid and tanh are within 4
units in the last place. The C library's functions take thirty times as long. They are used, in
float64, if `exact` is True, and for float64 numbers, which serve to check results.
"""

from __future__ import annotations

import math
from typing import Any

from l0gate.reference.compiled.simd.lanes import Lanes, intrinsic

_LOG2_E = 1 / math.log(2)
_ROUND = 1.5 * 2**23  # adding it rounds to an integer
_LN2_HIGH = 0.693359375  # has so few bits (10) that its products with n are exact
_LN2_LOW = math.log(2) - _LN2_HIGH
# Minimax polynomial for (expm1(r) - r) / r^2 on |r| <= ln(2)/2; the relative error of expm1(r) is
# 1.3e-8.
_MINIMAX = (0.0013882498, 0.0083666472, 0.041667204, 0.16666542, 0.49999997)


def _expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 in float32 for |x| <= 87.

    x is split into n ln(2) + r, with an integer n and |r| <= ln(2)/2. The result is
    2^n (expm1(r) + 1) - 1, with a polynomial for expm1(r).
    """
    z = x * _LOG2_E + _ROUND
    n = z - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = r.of(_MINIMAX[0])
    for coefficient in _MINIMAX[1:]:
        p = p * r + coefficient
    scale = z.power_of_two()
    return scale * (p * (r * r) + r) + (scale - 1)


def sigmoid(x: Lanes, exact: bool) -> Lanes:
    """1 / (1 + exp(-x))."""
    if x.is_float32 and not exact:
        return x.of(1) / (_expm1((-x).clamp(87)) + 2)
    return x.of(1) / ((-x).call("exp") + 1)


def tanh(x: Lanes, exact: bool) -> Lanes:
    """tanh(x) = expm1(2x) / (expm1(2x) + 2)."""
    if x.is_float32 and not exact:
        e = _expm1((x + x).clamp(20))
        return e / (e + 2)
    return x.call("tanh")


def sigmoid_tanh(x: Lanes, y: Lanes, exact: bool) -> Lanes:
    """sigmoid(x) tanh(y), with one division for both."""
    if x.is_float32 and not exact:
        e = _expm1((y + y).clamp(20))
        return e / ((e + 2) * (_expm1((-x).clamp(87)) + 2))
    return sigmoid(x, exact) * tanh(y, exact)


def relu(x: Lanes, exact: bool) -> Lanes:
    """max(x, 0); a NaN stays a NaN."""
    negative = x.builder.fcmp_ordered("<", x.value, x.of(0).value)
    return Lanes(x.builder, x.builder.select(negative, x.of(0).value, x.value))


def _elementwise(formula: Any, exact: bool = False) -> Any:
    """Compile a formula as a function of one number."""

    @intrinsic
    def function(typingctx, x):
        def generate(context, builder, signature, arguments):
            return formula(Lanes(builder, arguments[0]), exact).value

        return x(x), generate

    return function


sigmoid_of, tanh_of, relu_of = (_elementwise(formula) for formula in (sigmoid, tanh, relu))
exact_sigmoid_of, exact_tanh_of = (_elementwise(formula, True) for formula in (sigmoid, tanh))
