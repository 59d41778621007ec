"""Loops over neurons set what they are named after, and nothing past their end."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.reference.compiled.training import loops


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 5, 33])
def test_elementwise_loops(n, dtype):
    rng = np.random.default_rng(n)
    x, y = (rng.standard_normal(n + 2).astype(dtype) for _ in range(2))
    for function, arguments, expected in (
        (loops.set_to, (x,), x),
        (loops.set_zero, (), 0 * x),
        (loops.set_product, (x, y), x * y),
        (loops.set_sigmoid, (x,), 1 / (1 + np.exp(-x))),
        (loops.set_tanh, (x,), np.tanh(x)),
    ):
        out = np.full(n + 2, 7, dtype)
        function(out[:n], *arguments)
        np.testing.assert_allclose(out[:n], expected[:n], rtol=1e-6)
        assert (out[n:] == 7).all()
