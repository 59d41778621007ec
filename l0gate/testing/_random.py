"""Checks of a backend's random numbers: range, seed, independence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend
from l0gate.testing._compare import gate_dtypes, give
from l0gate.testing._operations import X

_SEED = 7
_SEEDS = (0, 1, 2, 3, 2**31, 2**32, 2**32 + 3)
_COUNT = 50_000
_SHAPES: Sequence[tuple[int, ...]] = ((), (0,), (3, 4), (_COUNT,))
_RANKS = np.arange(1, _COUNT + 1) / _COUNT
_UNEVEN = 2.7 / _COUNT**0.5  # Kolmogorov-Smirnov: uniform numbers exceed this once in a million
_ROW, _ROWS, _WINDOW = 200, 60, 4
# If 0 or 1 has probability 2^-25, drawing 2^28 numbers misses it in one of 3000 runs of the kit.
_SEARCHED, _CHUNK = 2**28, 2**22
_FINEST = 30  # on a finer grid, 0 and 1 are too rare to be found by drawing


def check_uniform_range(backend: Backend) -> None:
    """`uniform` is uniform and strictly inside (0, 1), in the shape and dtype asked for."""
    for dtype in gate_dtypes(backend):
        with backend.precision(dtype):
            like, rng = give(backend, X, dtype), backend.rng(_SEED)
            for shape in _SHAPES:
                array, rng = backend.uniform(rng, shape, like)
                assert backend.owns(array), f"uniform gives {type(array).__name__}"
                assert tuple(array.shape) == shape, (
                    f"uniform gives the shape {tuple(array.shape)}, but should give {shape}"
                )
                has = backend.dtype(array)
                assert has == dtype, f"uniform has dtype {has}, but should have {dtype}"
            u = backend.to_numpy(array).astype(float)
            _inside(u)
            distance = np.abs(np.sort(u) - _RANKS).max()
            assert distance < _UNEVEN, (
                f"uniform is not even: its distribution is off by {distance:.3f}"
            )
            if not _are_middles(u) and _on_a_coarse_grid(u):
                _search_the_ends(backend, rng, like)


def _inside(u: np.ndarray) -> None:
    assert u.min() > 0.0, f"uniform returns {u.min()}; it must stay above 0"
    assert u.max() < 1.0, f"uniform returns {u.max()}; it must stay below 1"


def _are_middles(u: np.ndarray) -> bool:
    """Whether all numbers are midpoints of 2^n equal parts of (0, 1): then 0 and 1 cannot occur.

    >>> _are_middles(np.array([0.125, 0.875])), _are_middles(np.array([0.25, 0.125]))
    (True, False)
    """
    return any(bool((u * 2.0**n % 2.0 == 1.0).all()) for n in range(1, 54))


def _on_a_coarse_grid(u: np.ndarray) -> bool:
    """Whether all numbers above 1/2 are multiples of 2^-30.

    If so, the generator may draw from so few different values that an exact 0 or 1, if it can
    occur, is found by drawing many numbers. Numbers below 1/2 show nothing: there floats are finer.
    """
    return bool((u[u > 0.5] * 2.0**_FINEST % 1.0 == 0.0).all())


def _search_the_ends(backend: Backend, rng: Any, like: Array) -> None:
    """Look for 0 or 1 in many numbers: even one in millions would turn training into NaN."""
    for _ in range(_SEARCHED // _CHUNK):
        u, rng = backend.uniform(rng, (_CHUNK,), like)
        _inside(backend.to_numpy(u))


def check_uniform_seed(backend: Backend) -> None:
    """Equal seeds give equal numbers, different seeds different ones; no draw changes its `rng`."""
    like = give(backend, X, "float32")

    def draw(rng: object) -> bytes:
        return backend.to_numpy(backend.uniform(rng, _SHAPES[-1], like)[0]).tobytes()

    rng = backend.rng(_SEED)
    first = draw(rng)
    assert draw(rng) == first, f"drawing changed the generator {rng!r}: it must be a value"
    assert draw(backend.rng(_SEED)) == first, f"the seed {_SEED} gave other numbers once more"
    seen = {draw(backend.rng(seed)): seed for seed in _SEEDS}
    assert len(seen) == len(_SEEDS), f"several of the seeds {_SEEDS} gave the same numbers"


def check_uniform_independence(backend: Backend) -> None:
    """Draws are independent: none repeats or predicts an earlier one, or one of another seed."""
    like = give(backend, X, "float32")

    def draw(rng: Any, count: int) -> tuple[np.ndarray, Any]:
        u, rng = backend.uniform(rng, (count,), like)
        return backend.to_numpy(u).astype(float), rng

    rng, rows = backend.rng(_SEED), []
    for count in (*[_ROW] * _ROWS, _ROW * _ROWS, _ROW):
        row, rng = draw(rng, count)
        rows.append(row)
    draws = np.array(rows[:_ROWS])
    for length in range(1, _WINDOW):  # overlaps that are too short for `_all_new`
        again = (draws[:-1, -length:] == draws[1:, :length]).all(axis=1)
        assert again.mean() < 0.25, f"uniform repeats the last {length} of the draw before"
    assert _all_new(rows), f"uniform repeats itself: {rng!r} and others give numbers drawn before"
    other, _ = draw(backend.rng(_SEED + 1), draws.size)
    assert _all_new([*rows, other]), f"the seeds {_SEED} and {_SEED + 1} share numbers"
    pairs = {
        "successive draws": (draws[:-1], draws[1:]),
        "neighbours in a draw": (draws[:, :-1], draws[:, 1:]),
        "neighbouring seeds": (draws, other.reshape(draws.shape)),
    }
    for what, (one, two) in pairs.items():
        correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
        assert abs(correlation) < 5 / one.size**0.5, (
            f"{what} are correlated: {correlation:.3f}, but should be about 0"
        )


def _all_new(draws: Sequence[np.ndarray]) -> bool:
    """Whether no sequence of four numbers occurs twice, within one draw or in two of them."""
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(d, _WINDOW) for d in draws])
    return len(np.unique(windows, axis=0)) == len(windows)
