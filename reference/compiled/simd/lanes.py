# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""What the kernels do with vector registers: arithmetic, activations, cells and tiles of products.

Compiled code sees memory as numbers: an *address* counts elements of the dtype, so that address + n
is n elements further on, whatever the array was. Every intrinsic has a first argument `like`, a
number of the dtype. Nothing here is checked: the callers know their shapes.

`Lanes` wraps a value of the compiler, one number or a vector of them, so that formulas read as they
would for numbers; each stands once for the loops of training, which LLVM vectorises, and for the
cells of inference, which hold a block of neurons in registers.

float32 activations are built on one expm1: sigmoid and tanh are within 4 units in the last place on
[-20, 20]. The library's functions would cost thirty times as much. float64, the dtype for checking,
and what is asked to be exact call those, in float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import overload

from l0gate.reference.compiled.compile import inlined

intrinsic: Any = typed_intrinsic  # its type counts the typing context as an argument of the call

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]  # what numba compiles for
BYTES = 64 if "+avx512f" in _FEATURES else 32 if "+avx" in _FEATURES else 16  # a vector register
LINE, _AHEAD = 64, 1024  # bytes: a line of the cache, and how far ahead weights are fetched
NEAR = 2**19  # bytes of weights that stay in the second cache, from where they come by themselves
# AVX-512 and NEON have 32 registers, the others 16; some hold the operands of a product.
_SUMS = 24 if BYTES == 64 or "+neon" in _FEATURES else 12


class Lanes:
    """A number or a vector of numbers in the code being generated."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, name: str, *others: Any, **options: Any) -> Lanes:
        values = [self.value, *(self.of(other).value for other in others)]
        return Lanes(self.builder, getattr(self.builder, name)(*values, **options))

    def of(self, x: Any) -> Lanes:
        """x in every lane."""
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
        """Within -limit..limit; a NaN stays a NaN."""
        x = self
        for operator, bound in ((">", x.of(limit)), ("<", x.of(-limit))):
            beyond = self.builder.fcmp_ordered(operator, x.value, bound.value)
            x = Lanes(self.builder, self.builder.select(beyond, bound.value, x.value))
        return x

    def power_of_two(self) -> Lanes:
        """2^n for float32 n + 1.5 * 2^23, whose lowest bits hold the integer n."""
        kind: Any = ir.IntType(32)
        shift, bias = ir.Constant(kind, 23), ir.Constant(kind, 127 << 23)
        if isinstance(self.value.type, ir.VectorType):
            kind = ir.VectorType(kind, self.value.type.count)
            shift, bias = (ir.Constant(kind, [n.constant] * kind.count) for n in (shift, bias))
        bits = self.builder.shl(self.builder.bitcast(self.value, kind), shift)
        bits = self.builder.add(bits, bias)
        return Lanes(self.builder, self.builder.bitcast(bits, self.value.type))

    def call(self, name: str) -> Lanes:
        """The library's function of float64, lane by lane, rounded to this dtype."""
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
    def fast(self) -> bool:
        kind = self.value.type
        return bool((kind.element if isinstance(kind, ir.VectorType) else kind) == ir.FloatType())


# --- activations ----------------------------------------------------------------------------------

_LOG2_E = 1 / math.log(2)
_ROUND = 1.5 * 2**23  # adding it rounds to an integer
_LN2_HIGH = 0.693359375  # 10 bits, so that its products with n are exact
_LN2_LOW = math.log(2) - _LN2_HIGH
# Minimax polynomial for (expm1(r) - r) / r^2 on |r| <= ln(2)/2, relative to expm1(r): 1.3e-8.
_MINIMAX = (0.0013882498, 0.0083666472, 0.041667204, 0.16666542, 0.49999997)


def _expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 in float32 for |x| <= 87: x = n ln(2) + r, and 2^n (1 + expm1(r)) - 1."""
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
    if x.fast and not exact:
        return x.of(1) / (_expm1((-x).clamp(87)) + 2)
    return x.of(1) / ((-x).call("exp") + 1)


def tanh(x: Lanes, exact: bool) -> Lanes:
    """tanh(x) = expm1(2x) / (expm1(2x) + 2)."""
    if x.fast and not exact:
        e = _expm1((x + x).clamp(20))
        return e / (e + 2)
    return x.call("tanh")


def sigmoid_tanh(x: Lanes, y: Lanes, exact: bool) -> Lanes:
    """sigmoid(x) tanh(y), with one division for both."""
    if x.fast and not exact:
        e = _expm1((y + y).clamp(20))
        return e / ((e + 2) * (_expm1((-x).clamp(87)) + 2))
    return sigmoid(x, exact) * tanh(y, exact)


def relu(x: Lanes, exact: bool) -> Lanes:
    """max(x, 0); a NaN stays a NaN."""
    negative = x.builder.fcmp_ordered("<", x.value, x.of(0).value)
    return Lanes(x.builder, x.builder.select(negative, x.of(0).value, x.value))


def _elementwise(formula: Any, exact: bool = False) -> Any:
    """Compile a formula for a number."""

    @intrinsic
    def function(typingctx, x):
        def generate(context, builder, signature, arguments):
            return formula(Lanes(builder, arguments[0]), exact).value

        return x(x), generate

    return function


sigmoid_of, tanh_of, relu_of = (_elementwise(formula) for formula in (sigmoid, tanh, relu))
exact_sigmoid_of, exact_tanh_of = (_elementwise(formula, True) for formula in (sigmoid, tanh))


# --- memory ---------------------------------------------------------------------------------------


@intrinsic
def address(typingctx, array):
    """Where an array begins. It must be used again after the last use of its address: `keep`."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        integer = context.get_value_type(types.intp)
        size = ir.Constant(integer, array.dtype.bitwidth // 8)
        return builder.udiv(builder.ptrtoint(data, integer), size)

    return types.intp(array), generate


@intrinsic
def aligned(typingctx, array):
    """Whether an array begins where a number can; numba takes it for granted."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        integer = context.get_value_type(types.intp)
        size = ir.Constant(integer, array.dtype.bitwidth // 8)
        rest = builder.urem(builder.ptrtoint(data, integer), size)
        return builder.icmp_unsigned("==", rest, ir.Constant(integer, 0))

    return types.boolean(array), generate


@inlined
def keep(array):
    """Whatever was done with the address of `array` is done before this."""
    return len(array)


class _Memory:
    """Loads and stores of numbers and vectors at addresses, in the code of one intrinsic."""

    def __init__(self, context: Any, builder: Any, like: Any) -> None:
        self.builder = builder
        self.number = context.get_data_type(like)
        self.size = like.bitwidth // 8
        self.width = BYTES // self.size
        self.vector = ir.VectorType(self.number, self.width)
        self.integer = functools.partial(ir.Constant, context.get_value_type(types.intp))

    def pointer(self, where: Any, kind: Any) -> Any:
        where = self.builder.mul(where, self.integer(self.size))
        return self.builder.inttoptr(where, kind.as_pointer())

    def offset(self, where: Any, by: int) -> Any:
        return self.builder.add(where, self.integer(by))

    def load(self, where: Any, kind: Any = None) -> Lanes:
        pointer = self.pointer(where, kind or self.vector)
        return Lanes(self.builder, self.builder.load(pointer, align=self.size))

    def store(self, x: Lanes, where: Any) -> None:
        pointer = self.pointer(where, x.value.type)
        self.builder.store(x.value, pointer, align=self.size)

    def prefetch(self, pointer: Any, lines: int) -> None:
        """Ask for so many lines of the cache, from `_AHEAD` bytes after a pointer on."""
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        options = [ir.Constant(flag, option) for option in (0, 3, 1)]  # read, all caches, data
        pointer = self.builder.bitcast(pointer, byte)
        for line in range(lines):
            place = self.builder.gep(pointer, [self.integer(_AHEAD + line * LINE)])
            self.builder.call(function, [place, *options])

    def everywhere(self, x: Any) -> Lanes:
        """A number in all lanes of a vector."""
        lanes = ir.Constant(self.vector, ir.Undefined)
        lanes = self.builder.insert_element(lanes, x, self.integer(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), None)
        return Lanes(self.builder, self.builder.shuffle_vector(lanes, lanes, zeros))


def _at(inputs: int) -> Any:
    """Compile a function of `Lanes` for a vector's worth of neurons: (like, addresses...).

    `formula(*inputs)` gets what the first addresses hold and returns what the others shall hold.
    """

    def decorate(formula: Any) -> tuple[Any, Any]:
        def compile_it(exact: bool) -> Any:
            @intrinsic
            def function(typingctx, like, addresses):
                def generate(context, builder, signature, arguments):
                    memory = _Memory(context, builder, like)
                    where = cgutils.unpack_tuple(builder, arguments[1])
                    results = formula(*map(memory.load, where[:inputs]), exact)
                    for result, place in zip(results, where[inputs:], strict=True):
                        memory.store(result, place)
                    return context.get_dummy_value()

                return types.void(like, addresses), generate

            return function

        return compile_it(False), compile_it(True)

    return decorate


@_at(inputs=5)
def _lstm(i: Lanes, f: Lanes, g: Lanes, o: Lanes, c: Lanes, exact: bool) -> Sequence[Lanes]:
    c = sigmoid(f, exact) * c + sigmoid_tanh(i, g, exact)
    return c, sigmoid_tanh(o, c, exact)


@_at(inputs=7)
def _gru(
    xr: Lanes, xz: Lanes, xn: Lanes, hr: Lanes, hz: Lanes, hn: Lanes, h: Lanes, exact: bool
) -> Sequence[Lanes]:
    """With the reset gate after the recurrent product."""
    r, z = sigmoid(xr + hr, exact), sigmoid(xz + hz, exact)
    n = tanh(xn + r * hn, exact)
    return (n + z * (h - n),)


@_at(inputs=3)
def _gru_gates(r: Lanes, z: Lanes, h: Lanes, exact: bool) -> Sequence[Lanes]:
    """With the reset gate before it: r h, which it reads, and z."""
    return sigmoid(r, exact) * h, sigmoid(z, exact)


@_at(inputs=3)
def _gru_update(n: Lanes, z: Lanes, h: Lanes, exact: bool) -> Sequence[Lanes]:
    n = tanh(n, exact)
    return (n + z * (h - n),)


(lstm_block, exact_lstm_block), (gru_block, exact_gru_block) = _lstm, _gru
(gru_gates_block, exact_gru_gates_block) = _gru_gates
(gru_update_block, exact_gru_update_block) = _gru_update


@intrinsic
def lanes_in(typingctx, like):
    """The numbers in a vector register."""

    def generate(context, builder, signature, arguments):
        return _Memory(context, builder, like).integer(BYTES * 8 // like.bitwidth)

    return types.intp(like), generate


def type_of(like):
    """The dtype of a number, in compiled code."""


@overload(type_of)
def _type_of(like):
    dtype = np.float32 if like == types.float32 else np.float64
    return lambda like: dtype


@intrinsic
def copy(typingctx, like, to, source, count):
    """Copy `count` numbers from one address to another."""

    def generate(context, builder, signature, arguments):
        memory = _Memory(context, builder, like)
        _, to, source, count = arguments
        to, source = (memory.pointer(where, memory.number) for where in (to, source))
        cgutils.raw_memcpy(builder, to, source, count, memory.size)
        return context.get_dummy_value()

    return types.void(like, to, source, count), generate


@intrinsic
def clear(typingctx, like, where, count):
    """Set `count` numbers to zero."""

    def generate(context, builder, signature, arguments):
        memory = _Memory(context, builder, like)
        size = builder.mul(arguments[2], memory.integer(memory.size))
        cgutils.memset(builder, memory.pointer(arguments[1], memory.number), size, 0)
        return context.get_dummy_value()

    return types.void(like, where, count), generate


@intrinsic
def integer_at(typingctx, where):
    """The int64 at an address of int64."""

    def generate(context, builder, signature, arguments):
        return _Memory(context, builder, types.int64).load(arguments[0], ir.IntType(64)).value

    return types.int64(where), generate


@intrinsic
def number_at(typingctx, like, where):
    """The number at an address."""

    def generate(context, builder, signature, arguments):
        memory = _Memory(context, builder, like)
        return memory.load(arguments[1], memory.number).value

    return like(like, where), generate


@intrinsic
def set_number(typingctx, like, where):
    """Set the number at an address to `like`."""

    def generate(context, builder, signature, arguments):
        memory = _Memory(context, builder, like)
        memory.store(Lanes(builder, arguments[0]), arguments[1])
        return context.get_dummy_value()

    return types.void(like, where), generate


# --- products -------------------------------------------------------------------------------------


# The most rows of a tile, by the vectors of its panel. Sixteen registers hold the sums of six rows
# and four vectors in two halves.
_MOST_ROWS = {1: 8, 2: 8, 3: 8, 4: 6} if _SUMS == 24 else {1: 6, 2: 6, 3: 4, 4: 6}


def strip_of(vectors: int) -> int:
    """How many vectors of a panel lie side by side: as many as a tile runs over at once.

    With two strips a single row gets no more than two thirds of what the second cache can give, on
    AVX-512; on AVX2 it makes no difference.
    """
    return 2 if vectors == 4 and _SUMS == 12 else vectors


def _tile(rows: int, vectors: int) -> Any:
    """Compile out[r] = start[r] + a[r] @ panel for r < rows, and a panel of so many vectors.

    The panel is a matrix (depth, vectors * lanes), cut into strips that lie one after the other, so
    that a run over the depth reads memory in order. a, start and out have a distance between rows.
    far: whether the weights of the whole net are more than `NEAR`.
    """
    strip = strip_of(vectors)
    most = max(1, min(vectors, _SUMS // rows))
    parts = -(-vectors // most)  # runs over the depth, of as many vectors each as can be
    widths = [vectors * (n + 1) // parts - vectors * n // parts for n in range(parts)]

    @intrinsic
    def tile(typingctx, like, far, a, a_step, panel, depth, start, start_step, out, out_step):
        def generate(context, builder, signature, arguments):
            memory = _Memory(context, builder, like)
            _, far, a, a_step, panel, depth, start, start_step, out, out_step = arguments
            lanes, number = memory.width, memory.number

            def row_of(base, step, r):
                return builder.add(base, builder.mul(step, memory.integer(r)))

            left = [memory.pointer(row_of(a, a_step, r), number) for r in range(rows)]
            first = 0
            for width in widths:
                # Each sum waits some 4 cycles for its last multiply-add; eight keep a unit busy.
                unroll = max(1, 8 // (rows * width))
                columns = range(first, first + width)
                starts = [
                    [
                        memory.load(memory.offset(row_of(start, start_step, r), v * lanes)).value
                        for v in columns
                    ]
                    for r in range(rows)
                ]
                zero = ir.Constant(memory.vector, None)
                # sums[u][r][v]; on the stack in name, in registers once optimised
                sums = [
                    [
                        [cgutils.alloca_once_value(builder, zero if u else x) for x in row]
                        for row in starts
                    ]
                    for u in range(unroll)
                ]
                strips = {
                    v: builder.add(panel, builder.mul(depth, memory.integer(v * lanes)))
                    for v in range(0, vectors, strip)
                }
                strips = {v: memory.pointer(where, memory.vector) for v, where in strips.items()}

                def prefetch(k, unroll=unroll, strips=strips, columns=columns):
                    """What the strips hold later: one row uses weights faster than they come."""
                    lines = max(1, unroll * strip * BYTES // LINE)
                    for v in sorted({v - v % strip for v in columns}):
                        line = builder.mul(k, memory.integer(strip))
                        memory.prefetch(builder.gep(strips[v], [line]), lines)

                def add_products(part, k, strips=strips, columns=columns):
                    line = builder.mul(k, memory.integer(strip))
                    places = [
                        builder.gep(
                            strips[v - v % strip], [builder.add(line, memory.integer(v % strip))]
                        )
                        for v in columns
                    ]
                    weights = [builder.load(place, align=memory.size) for place in places]
                    for r in range(rows):
                        x = memory.everywhere(builder.load(builder.gep(left[r], [k])))
                        for place, weight in zip(part[r], weights, strict=True):
                            term = Lanes(builder, builder.load(place)) + x * Lanes(builder, weight)
                            builder.store(term.value, place)

                even = builder.and_(depth, memory.integer(-unroll))

                def run(ahead, sums=sums, unroll=unroll, even=even, ask=prefetch, add=add_products):
                    bounds = memory.integer(0), even, memory.integer(unroll)
                    with cgutils.for_range_slice(builder, *bounds) as (k, _):
                        if ahead:
                            ask(k)
                        for u in range(unroll):
                            add(sums[u], builder.add(k, memory.integer(u)))

                if rows == 1:
                    with builder.if_else(far) as (then, otherwise):
                        with then:
                            run(ahead=True)
                        with otherwise:
                            run(ahead=False)
                else:
                    run(ahead=False)
                if unroll > 1:
                    with cgutils.for_range_slice(builder, even, depth, memory.integer(1)) as (k, _):
                        add_products(sums[0], k)
                for r in range(rows):
                    for n, v in enumerate(columns):
                        total = Lanes(builder, builder.load(sums[0][r][n]))
                        for u in range(1, unroll):
                            total = total + Lanes(builder, builder.load(sums[u][r][n]))
                        memory.store(total, memory.offset(row_of(out, out_step, r), v * lanes))
                first += width
            return context.get_dummy_value()

        steps = a, a_step, panel, depth, start, start_step, out, out_step
        return types.void(like, far, *steps), generate

    return tile


def _product(vectors: int) -> Any:
    """Compile out = start + a @ panel for any number of rows."""
    most = _MOST_ROWS[vectors]
    tile_most, tile_4, tile_2, tile_1 = (_tile(rows, vectors) for rows in (most, 4, 2, 1))

    def product(like, far, rows, a, a_step, panel, depth, start, start_step, out, out_step):
        row = 0
        while row < rows:
            x, y, z = a + row * a_step, start + row * start_step, out + row * out_step
            left = rows - row
            if left >= most:
                tile_most(like, far, x, a_step, panel, depth, y, start_step, z, out_step)
                row += most
            elif left >= 4:
                tile_4(like, far, x, a_step, panel, depth, y, start_step, z, out_step)
                row += 4
            elif left >= 2:
                tile_2(like, far, x, a_step, panel, depth, y, start_step, z, out_step)
                row += 2
            else:
                tile_1(like, far, x, a_step, panel, depth, y, start_step, z, out_step)
                row += 1

    # Symbols are called after it. Two kernels from the disk, compiled in different processes, would
    # else take each other's products for their own.
    product.__qualname__ = f"product_{vectors}"
    return inlined(product)


product_1, product_2, product_3, product_4 = (_product(vectors) for vectors in (1, 2, 3, 4))


def lanes_of(dtype: np.dtype[Any]) -> int:
    """The numbers in a vector register."""
    return BYTES // dtype.itemsize
