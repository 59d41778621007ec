# mypy: disable-error-code="no-untyped-call"
"""`Lanes`, vectors of numbers in generated code, and the size of the processor's vector registers.

A lane is the place of one number in a vector register.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic as typed_intrinsic

intrinsic: Any = typed_intrinsic  # numba's type for it counts the typing context as an argument

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]  # of the processor, for numba
BYTES = 64 if "+avx512f" in _FEATURES else 32 if "+avx" in _FEATURES else 16  # a vector register
# The registers that hold sums of products. AVX-512 and NEON have 32 registers, other processors 16;
# the rest of them hold operands.
SUM_REGISTERS = 24 if BYTES == 64 or "+neon" in _FEATURES else 12


def lanes_of(dtype: np.dtype[Any]) -> int:
    """How many numbers of a dtype a vector register holds."""
    return BYTES // dtype.itemsize


class Lanes:
    """A number, or a vector of numbers, in the code that is being generated.

    The operators generate instructions, so that formulas look as they do for numbers. Training uses
    single numbers, in loops that LLVM vectorises; inference uses vectors.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, name: str, *others: Any, **options: Any) -> Lanes:
        values = [self.value, *(self.of(other).value for other in others)]
        return Lanes(self.builder, getattr(self.builder, name)(*values, **options))

    def of(self, x: Any) -> Lanes:
        """The number x in every lane; `Lanes` as they are."""
        if isinstance(x, Lanes):
            return x
        kind, x = self.value.type, float(x)
        constant = [x] * kind.count if isinstance(kind, ir.VectorType) else x
        return Lanes(self.builder, ir.Constant(kind, constant))

    def __add__(self, other: Any) -> Lanes:
        return self._with("fadd", other, flags=["contract"])

    def __sub__(self, other: Any) -> Lanes:
        return self._with("fsub", other, flags=["contract"])

    def __mul__(self, other: Any) -> Lanes:
        return self._with("fmul", other, flags=["contract"])

    def __truediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", other)

    def __neg__(self) -> Lanes:
        return self._with("fneg")

    def clamp(self, limit: float) -> Lanes:
        """The value, limited to -limit..limit; a NaN stays a NaN."""
        x = self
        for operator, bound in ((">", x.of(limit)), ("<", x.of(-limit))):
            beyond = self.builder.fcmp_ordered(operator, x.value, bound.value)
            x = Lanes(self.builder, self.builder.select(beyond, bound.value, x.value))
        return x

    def power_of_two(self) -> Lanes:
        """2^n from the float32 n + 1.5 * 2^23, whose lowest bits are the integer n."""
        kind: Any = ir.IntType(32)
        shift, bias = ir.Constant(kind, 23), ir.Constant(kind, 127 << 23)
        if isinstance(self.value.type, ir.VectorType):
            kind = ir.VectorType(kind, self.value.type.count)
            shift, bias = (ir.Constant(kind, [n.constant] * kind.count) for n in (shift, bias))
        bits = self.builder.shl(self.builder.bitcast(self.value, kind), shift)
        bits = self.builder.add(bits, bias)
        return Lanes(self.builder, self.builder.bitcast(bits, self.value.type))

    def call(self, name: str) -> Lanes:
        """The float64 function of the C library, for each number, rounded to this dtype."""
        builder, kind = self.builder, self.value.type
        vector = isinstance(kind, ir.VectorType)
        number, double = kind.element if vector else kind, ir.DoubleType()
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(double, [double]), name
        )

        def one(x: Any) -> Any:
            y = builder.call(function, [x if number == double else builder.fpext(x, double)])
            return y if number == double else builder.fptrunc(y, number)

        if not vector:
            return Lanes(builder, one(self.value))
        result = ir.Constant(kind, ir.Undefined)
        for lane in range(kind.count):
            index = ir.Constant(ir.IntType(32), lane)
            y = one(builder.extract_element(self.value, index))
            result = builder.insert_element(result, y, index)
        return Lanes(builder, result)

    @property
    def is_float32(self) -> bool:
        kind = self.value.type
        return bool((kind.element if isinstance(kind, ir.VectorType) else kind) == ir.FloatType())
