# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
"""Matrix products in generated code, with a matrix that is packed into panels.

A *panel* holds the columns of the matrix that fit in a few vector registers. A *tile* is the
product of a few rows with one panel; all its sums are held in vector registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from l0gate.reference.compiled.compile import inlined
from l0gate.reference.compiled.simd.lanes import BYTES, SUM_REGISTERS, Lanes, intrinsic
from l0gate.reference.compiled.simd.memory import LINE, Memory

# The most rows of a tile, by the number of vectors in a row of its panel. With 16 registers, a tile
# of six rows and four vectors is computed in two halves.
_MOST_ROWS = {1: 8, 2: 8, 3: 8, 4: 6} if SUM_REGISTERS == 24 else {1: 6, 2: 6, 3: 4, 4: 6}


def strip_of(vectors: int) -> int:
    """The number of vectors in each row of a strip: the part of a panel that a tile reads in one
    loop.

    On AVX-512 a panel is one strip. With two strips, a product with a single row would read the
    second-level cache at two thirds of its speed. On AVX2 two strips are as fast as one.
    """
    return 2 if vectors == 4 and SUM_REGISTERS == 12 else vectors


def _tile(rows: int, vectors: int) -> Any:
    """Compile out[r] = start[r] + a[r] @ panel for r < rows, with all sums in registers.

    a (rows, depth), panel (depth, vectors * lanes), start and out (rows, vectors * lanes) are
    addresses; `a_step`, `start_step` and `out_step` are the distances between rows. The columns of
    the panel are cut into strips, which lie one after the other in memory, so that each loop over
    the depth reads memory in order. far: whether the weights of the whole net take more than `NEAR`
    bytes; if so, weights are prefetched for single rows.
    """
    strip = strip_of(vectors)
    most = max(1, min(vectors, SUM_REGISTERS // rows))
    parts = -(-vectors // most)  # loops over the depth, each for as many vectors as fit
    widths = [vectors * (n + 1) // parts - vectors * n // parts for n in range(parts)]

    @intrinsic
    def tile(typingctx, like, far, a, a_step, panel, depth, start, start_step, out, out_step):
        def generate(context, builder, signature, arguments):
            memory = Memory(context, builder, like)
            _, far, a, a_step, panel, depth, start, start_step, out, out_step = arguments
            lanes, number = memory.width, memory.number

            def row_of(base, step, r):
                return builder.add(base, builder.mul(step, memory.integer(r)))

            left = [memory.pointer(row_of(a, a_step, r), number) for r in range(rows)]
            first = 0
            for width in widths:
                # A multiply-add takes some 4 cycles, so 8 independent sums keep two units busy.
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
                # sums[u][r][v]: variables on the stack, which LLVM turns into registers
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
                    """Fetch weights ahead: a single row uses them faster than memory delivers."""
                    lines = max(1, unroll * strip * BYTES // LINE)
                    for v in sorted({v - v % strip for v in columns}):
                        line = builder.mul(k, memory.integer(strip))
                        memory.prefetch(builder.gep(strips[v], [line]), lines)

                def add_products(part, k, strips=strips, columns=columns):
                    line = builder.mul(k, memory.integer(strip))
                    addresses = [
                        builder.gep(
                            strips[v - v % strip], [builder.add(line, memory.integer(v % strip))]
                        )
                        for v in columns
                    ]
                    weights = [builder.load(at, align=memory.size) for at in addresses]
                    for r in range(rows):
                        x = memory.everywhere(builder.load(builder.gep(left[r], [k])))
                        for total, weight in zip(part[r], weights, strict=True):
                            term = Lanes(builder, builder.load(total)) + x * Lanes(builder, weight)
                            builder.store(term.value, total)

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
    """Compile out = start + a @ panel for any number of rows, tile by tile.

    `_tile` says what the arguments are.
    """
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

    # numba names symbols after the qualified name. If all four functions had one name, kernels that
    # are loaded from disk but were compiled in different processes would call each other's
    # products.
    product.__qualname__ = f"product_{vectors}"
    return inlined(product)


product_1, product_2, product_3, product_4 = (_product(vectors) for vectors in (1, 2, 3, 4))
