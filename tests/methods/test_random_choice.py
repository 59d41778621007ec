"""Random neurons follow the seed."""

from __future__ import annotations

from method_cases import LAYOUT, arrays

from l0gate import get_backend
from l0gate.methods import Random


def test_random_neurons_follow_the_seed() -> None:
    backend, parameters = get_backend("numpy"), arrays()
    first, same, other = (
        Random(seed).scores(LAYOUT, parameters, backend)["h0"] for seed in (1, 1, 2)
    )
    assert (first == same).all()
    assert (first != other).all()
