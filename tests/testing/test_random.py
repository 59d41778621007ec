"""The checks of random numbers: every kind of fault fails at one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faults import assert_found, found_in
from faulty_generators import (
    OneStream,
    UniformAvoidsTheEnds,
    UniformOfBits,
)

import l0gate
import l0gate.testing
from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    _random,
    run_check,
)


@pytest.mark.parametrize("fault", found_in(_random), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)


@pytest.mark.parametrize("backend", [UniformAvoidsTheEnds(), OneStream()])
def test_generators_that_do_otherwise_and_are_right(
    backend: NumpyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(backend, UniformAvoidsTheEnds):
        monkeypatch.setattr("l0gate.testing._random._SEARCHED", 2**24)
        run_check(l0gate.testing.check_uniform_range, backend).raise_if_failed()
        run_check(l0gate.testing.check_uniform_seed, backend).raise_if_failed()
    run_check(l0gate.testing.check_uniform_independence, backend).raise_if_failed()


def test_only_coarse_grids_are_searched_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fine(UniformOfBits):
        def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
            u = np.random.default_rng(rng).random(shape)
            coarse = np.maximum(np.floor(u * 2.0**24), 1.0) * 2.0**-24
            return (coarse if like.dtype == "float32" else u).astype(like.dtype), (*rng, 1)

    searched = []
    monkeypatch.setattr(
        _random, "_search_the_ends", lambda backend, rng, like: searched.append(str(like.dtype))
    )
    l0gate.testing.check_uniform_range(Fine())
    assert searched == ["float32"]
    l0gate.testing.check_uniform_range(NumpyBackend())
    assert searched == ["float32"]
    grids = [np.array([0.25 + 2.0**-32, 0.5 + 2.0**-n]) for n in (29, 30, 31)]
    assert [_random._on_a_coarse_grid(u) for u in grids] == [True, True, False]
    middles = [np.array([0.125, 0.875]), np.array([0.5]), np.array([0.5, 0.25]), np.array([1.0])]
    assert [_random._are_middles(u) for u in middles] == [True, True, False, False]
    assert _random._are_middles(np.array([2.0**-53, 1 - 2.0**-53]))
