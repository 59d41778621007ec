"""Products with packed panels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.training.panels import add_product, pack, scratch


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 3, 2), (5, 20, 70), (9, 1, 32)])
def test_a_product_is_added_to_what_is_there(rows, depth, columns, dtype):
    rng = np.random.default_rng(0)
    a, matrix = rng.standard_normal((rows, depth + 4)), rng.standard_normal((depth, columns))
    panels = pack(matrix.astype(dtype))
    out = scratch(rows, panels)
    assert out.shape == (rows, panels.shape[0] * panels.shape[2])
    assert not out.any()
    out[:, :columns] = 1
    add_product(out, a.astype(dtype), 2, panels)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    )
    np.testing.assert_allclose(out[:, :columns], 1 + a[:, 2 : 2 + depth] @ matrix, **tolerance)
    assert not out[:, columns:].any()


def test_a_nan_of_the_matrix_stays_in_its_column():
    matrix = np.ones((3, 40), np.float32)
    matrix[1, 7] = np.nan
    panels = pack(matrix)
    out = scratch(2, panels)
    add_product(out, np.ones((2, 3), np.float32), 0, panels)
    assert np.isnan(out[:, 7]).all()
    assert np.isfinite(np.delete(out, 7, axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_panels_are_as_wide_as_two_vectors(dtype):
    width = 2 * lanes_of(np.dtype(dtype))
    panels = pack(np.ones((3, width + 1), dtype))
    assert panels.shape == (2, 3, width)
    assert panels[1, :, 1:].sum() == 0
    assert panels.sum() == 3 * (width + 1)
