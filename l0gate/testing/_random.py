"""Checks of a backend's random numbers: range, seed, independence."""

from __future__ import annotations

import numpy as np

from l0gate._tensor import Backend
from l0gate.testing._compare import gate_dtypes, give

_COUNT = 50_000


def check_uniform_range(backend: Backend) -> None:
    """`uniform` draws evenly and strictly inside (0, 1), in the shape and dtype asked for."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            like = give(backend, np.zeros(1), dtype)
            for shape in ((), (0,), (3, 4), (_COUNT,)):
                array, _ = backend.uniform(backend.rng(7), shape, like)
                assert backend.owns(array), f"uniform gives {type(array).__name__}"
                assert tuple(array.shape) == shape, (
                    f"uniform gives the shape {tuple(array.shape)}, but should give {shape}"
                )
                has = backend.dtype(array)
                assert has == dtype, f"uniform has dtype {has}, but should have {dtype}"
            u = backend.to_numpy(array).astype(float)
            assert u.min() > 0.0, f"uniform returns {u.min()}; it must stay above 0"
            assert u.max() < 1.0, f"uniform returns {u.max()}; it must stay below 1"
            # Kolmogorov and Smirnov: even numbers exceed this once in a million.
            ranks = np.arange(1, _COUNT + 1) / _COUNT
            distance = np.abs(np.sort(u) - ranks).max()
            assert distance < 2.7 / _COUNT**0.5, (
                f"uniform is not even: its distribution is off by {distance:.3f}"
            )


def check_uniform_seed(backend: Backend) -> None:
    """The same seed gives the same numbers, another one others; drawing changes no generator."""
    like = give(backend, np.zeros(1, np.float32))

    def draw(rng: object) -> np.ndarray:
        return backend.to_numpy(backend.uniform(rng, (100,), like)[0])

    rng = backend.rng(3)
    first = draw(rng)
    assert np.array_equal(draw(rng), first), "drawing changed the generator: it must be a value"
    assert np.array_equal(draw(backend.rng(3)), first), "the same seed gave other numbers"
    seen = {draw(backend.rng(seed)).tobytes() for seed in (0, 1, 2, 3, 2**31, 2**32, 2**32 + 3)}
    assert len(seen) == 7, "different seeds gave the same numbers"


def check_uniform_independence(backend: Backend) -> None:
    """The generator that `uniform` returns goes on: no draw repeats or follows another."""
    like = give(backend, np.zeros(1, np.float32))
    rng, rows = backend.rng(11), []
    for _ in range(60):
        u, rng = backend.uniform(rng, (200,), like)
        rows.append(backend.to_numpy(u).astype(float))
    assert len({row.tobytes() for row in rows}) == len(rows), (
        "uniform repeats itself: the generator that it returns gives numbers drawn before"
    )
    draws = np.array(rows)
    other, _ = backend.uniform(backend.rng(12), (200 * 60,), like)
    pairs = {
        "successive draws": (draws[:-1], draws[1:]),
        "neighbours in a draw": (draws[:, :-1], draws[:, 1:]),
        "neighbouring seeds": (draws, backend.to_numpy(other).astype(float).reshape(draws.shape)),
    }
    for what, (one, two) in pairs.items():
        correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
        assert abs(correlation) < 5 / one.size**0.5, (
            f"{what} are correlated: {correlation:.3f}, but should be about 0"
        )
