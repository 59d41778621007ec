"""Geometric median scores the distance from all others."""

from __future__ import annotations

import numpy as np

from l0gate import Layout, get_backend
from l0gate.methods import GeometricMedian


def test_geometric_median_scores_distances() -> None:
    # The block that belongs to no axis stands before one that does.
    layout = Layout({"w": "(3 + 2 h) <- _", "u": ["h <- h", "h <- h"], "v": "_ <- (h 2)"})
    rng = np.random.default_rng(0)
    parameters = {
        "w": rng.standard_normal((11, 3)),
        "u": rng.standard_normal((2, 4, 4)),
        "v": rng.standard_normal((2, 8)),
    }
    vectors = []
    for j in range(4):
        parts = [parameters["w"][[3 + j, 7 + j]], parameters["v"][:, 2 * j : 2 * j + 2]]
        parts += [u[j] for u in parameters["u"]] + [u[:, j] for u in parameters["u"]]
        vectors.append(np.concatenate([part.ravel() for part in parts]))
    expected = [sum(np.linalg.norm(a - b) for b in vectors) for a in vectors]
    found = GeometricMedian().scores(layout, parameters, get_backend("numpy"))["h"]
    np.testing.assert_allclose(found, expected / np.mean(expected), rtol=1e-12)
