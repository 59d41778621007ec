# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Memory in compiled code: addresses, loads, stores, and the cache.

Kernels take the addresses of arrays as integers. An *address* counts elements of the dtype, not
bytes: address + n is n elements further on. Intrinsics that read or write numbers have a first
argument `like`, any number of the dtype. Nothing checks bounds here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.lanes import BYTES, Lanes, intrinsic

LINE = 64  # bytes in a cache line
AHEAD = 1024  # bytes: how far ahead of their use weights are fetched
NEAR = 2**19  # bytes: so many weights stay in the second-level cache, and need no prefetching


@intrinsic
def address(typingctx, array):
    """The address of an array's first number.

    The array must be used once more after the last use of the address, because otherwise it may be
    freed too early: see `keep`.
    """

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        integer = context.get_value_type(types.intp)
        size = ir.Constant(integer, array.dtype.bitwidth // 8)
        return builder.udiv(builder.ptrtoint(data, integer), size)

    return types.intp(array), generate


@intrinsic
def aligned(typingctx, array):
    """Whether an array's first byte is aligned to its dtype; numba assumes so without a check."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        integer = context.get_value_type(types.intp)
        size = ir.Constant(integer, array.dtype.bitwidth // 8)
        rest = builder.urem(builder.ptrtoint(data, integer), size)
        return builder.icmp_unsigned("==", rest, ir.Constant(integer, 0))

    return types.boolean(array), generate


@inlined
def keep(array):
    """Use `array`, so that numba does not free it earlier, while its address is still in use."""
    return len(array)


class Memory:
    """Loads and stores of numbers and vectors at addresses, for the code of one intrinsic."""

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
        """Fetch `lines` cache lines into the cache, from `AHEAD` bytes after a pointer on."""
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        options = [
            ir.Constant(flag, option) for option in (0, 3, 1)
        ]  # for reading, into all caches, data
        pointer = self.builder.bitcast(pointer, byte)
        for line in range(lines):
            address = self.builder.gep(pointer, [self.integer(AHEAD + line * LINE)])
            self.builder.call(function, [address, *options])

    def everywhere(self, x: Any) -> Lanes:
        """A vector with the number x in all lanes."""
        lanes = ir.Constant(self.vector, ir.Undefined)
        lanes = self.builder.insert_element(lanes, x, self.integer(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), None)
        return Lanes(self.builder, self.builder.shuffle_vector(lanes, lanes, zeros))


@intrinsic
def lanes_in(typingctx, like):
    """How many numbers of the dtype of `like` a vector register holds, for use in kernels."""

    def generate(context, builder, signature, arguments):
        return Memory(context, builder, like).integer(BYTES * 8 // like.bitwidth)

    return types.intp(like), generate


def type_of(like):
    """The dtype of the number `like`, for use in kernels only."""


@overload(type_of)
def _type_of(like):
    dtype = np.float32 if like == types.float32 else np.float64
    return lambda like: dtype


@intrinsic
def copy(typingctx, like, to, source, count):
    """Copy `count` numbers from one address to another."""

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, like)
        _, to, source, count = arguments
        to, source = (memory.pointer(where, memory.number) for where in (to, source))
        cgutils.raw_memcpy(builder, to, source, count, memory.size)
        return context.get_dummy_value()

    return types.void(like, to, source, count), generate


@intrinsic
def clear(typingctx, like, where, count):
    """Set `count` numbers to zero."""

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, like)
        size = builder.mul(arguments[2], memory.integer(memory.size))
        cgutils.memset(builder, memory.pointer(arguments[1], memory.number), size, 0)
        return context.get_dummy_value()

    return types.void(like, where, count), generate


@intrinsic
def integer_at(typingctx, where):
    """The int64 at an address of int64."""

    def generate(context, builder, signature, arguments):
        return Memory(context, builder, types.int64).load(arguments[0], ir.IntType(64)).value

    return types.int64(where), generate


@intrinsic
def number_at(typingctx, like, where):
    """The number of the dtype at an address."""

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, like)
        return memory.load(arguments[1], memory.number).value

    return like(like, where), generate


@intrinsic
def set_number(typingctx, like, where):
    """Set the number at an address to `like`."""

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, like)
        memory.store(Lanes(builder, arguments[0]), arguments[1])
        return context.get_dummy_value()

    return types.void(like, where), generate
