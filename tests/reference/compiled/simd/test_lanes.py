"""Formulas of `Lanes`: the same for a number and for a vector."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from llvmlite import ir

from l0gate.reference.compiled.simd.lanes import BYTES, Lanes, intrinsic, lanes_of


def compiled(formula, vector):
    """formula(Lanes) as a function of one number, computed as a number or in all lanes."""

    @intrinsic
    def function(typingctx, x):
        def generate(context, builder, signature, arguments):
            if not vector:
                return formula(Lanes(builder, arguments[0])).value
            number = context.get_data_type(x)
            kind = ir.VectorType(number, BYTES * 8 // x.bitwidth)
            zero = ir.Constant(ir.IntType(32), 0)
            value = builder.insert_element(ir.Constant(kind, None), arguments[0], zero)
            return builder.extract_element(formula(Lanes(builder, value)).value, zero)

        return x(x), generate

    @numba.njit
    def run(x):
        return function(x)

    return run


FORMULAS = {
    "arithmetic": (lambda x: -((x + 1) * 3 - x / 4), lambda x: -((x + 1) * 3 - x / 4)),
    "clamp": (lambda x: x.clamp(2), lambda x: np.clip(x, -2, 2)),
    "library": (lambda x: x.call("exp"), np.exp),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_those_of_numbers(name, vector, dtype):
    formula, expected = FORMULAS[name]
    run = compiled(formula, vector)
    for x in np.array([-5, -2, -0.25, 0, 0.5, 2, 3.75, np.nan], dtype):
        found = run(x)
        np.testing.assert_allclose(found, expected(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("vector", [False, True])
def test_powers_of_two_come_from_the_lowest_bits(vector):
    run = compiled(lambda x: (x + 1.5 * 2**23).power_of_two(), vector)
    for n in (-126, -1, 0, 1, 10, 127):
        assert run(np.float32(n)) == 2.0**n


def test_the_lanes_of_a_register():
    assert lanes_of(np.dtype(np.float32)) == 2 * lanes_of(np.dtype(np.float64)) == BYTES // 4
