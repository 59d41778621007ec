"""Products by tiles, for any number of rows, against NumPy."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from l0gate.reference.compiled.simd import tiles
from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.simd.memory import address, keep

PRODUCTS = {vectors: getattr(tiles, f"product_{vectors}") for vectors in (1, 2, 3, 4)}


def panel_of(matrix, vectors, lanes):
    """The columns of a matrix (depth, vectors * lanes) as strips, one after the other."""
    strip = tiles.strip_of(vectors) * lanes
    starts = range(0, vectors * lanes, strip)
    return np.concatenate([matrix[:, at : at + strip].ravel() for at in starts])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("vectors", PRODUCTS)
def test_products_equal_numpys(vectors, dtype):
    product, lanes = PRODUCTS[vectors], lanes_of(np.dtype(dtype))
    columns = vectors * lanes

    @numba.njit
    def run(far, rows, a, panel, depth, start, start_step, out, out_step):
        product(
            a.dtype.type(0),
            far,
            rows,
            address(a),
            a.shape[1],
            address(panel),
            depth,
            address(start),
            start_step,
            address(out),
            out_step,
        )
        for array in (a, start, out):
            keep(array)
        keep(panel)

    rng = np.random.default_rng(0)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    )
    for rows in (0, 1, 2, 3, 4, 5, 7, 8, 9, 15):
        for depth in (0, 1, 5, 19):
            for far in (False, True):
                a, matrix, start = (
                    rng.standard_normal(shape).astype(dtype)
                    for shape in ((rows, depth + 2), (depth, columns), (rows, columns + 3))
                )
                out = np.full((rows, columns + 1), 7, dtype)
                panel = panel_of(matrix, vectors, lanes)
                run(far, rows, a, panel, depth, start, start.shape[1], out, out.shape[1])
                expected = start[:, :columns] + a[:, :depth] @ matrix
                np.testing.assert_allclose(out[:, :columns], expected, **tolerance)
                assert (out[:, columns:] == 7).all()  # nothing is written past the last column


def test_one_start_may_serve_all_rows():
    lanes = lanes_of(np.dtype(np.float64))

    @numba.njit
    def run(a, panel, bias, out):
        tiles.product_2(
            0.0,
            False,
            len(a),
            address(a),
            a.shape[1],
            address(panel),
            a.shape[1],
            address(bias),
            0,
            address(out),
            out.shape[1],
        )
        keep(a)
        keep(panel)
        keep(bias)
        keep(out)

    rng = np.random.default_rng(1)
    a, bias = rng.standard_normal((5, 3)), rng.standard_normal(2 * lanes)
    matrix, out = rng.standard_normal((3, 2 * lanes)), np.empty((5, 2 * lanes))
    run(a, panel_of(matrix, 2, lanes), bias, out)
    np.testing.assert_allclose(out, bias + a @ matrix, rtol=1e-12, atol=1e-12)
