"""What a backend that says nothing more than its namespace does by itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from l0gate import Backend, L0GateError
from l0gate._backend import sigmoid, zeros


class Bare(Backend):
    name: ClassVar[str] = "bare"
    capabilities: ClassVar[frozenset[str]] = frozenset({"b", "a"})
    xp: Any = np
    array_type = np.ndarray


BARE = Bare()


@pytest.mark.parametrize(
    ("call", "capability"),
    [
        (lambda b: b.value_and_grad(None), "autodiff"),
        (lambda b: b.gate_model(None), "models"),
        (lambda b: b.describe(None), "models"),
        (lambda b: b.rebuild(None, None), "models"),
        (lambda b: b.example_models(), "models"),
        (lambda b: b.net([]), "nets"),
    ],
)
def test_what_is_not_offered_is_named(call: Any, capability: str) -> None:
    message = rf"^backend 'bare' does not offer '{capability}' \(its capabilities: a, b\)$"
    with pytest.raises(L0GateError, match=message):
        call(BARE)
    with pytest.raises(L0GateError, match=r"its capabilities: none\)$"):
        call(Backend())


def test_defaults() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert repr(BARE) == "<l0gate backend bare>"
    assert BARE.owns(x)
    assert not BARE.owns([1.0])
    assert not BARE.owns_model(x)
    assert BARE.dtype(x) == "float32"
    assert BARE.asarray([[1, 2]]).tolist() == [[1, 2]]
    assert BARE.to_numpy(x) is x
    assert BARE.cast(x, "float64").dtype == np.float64
    assert BARE.cast(x, "float16").dtype == np.float16
    assert BARE.take(x, np.array([0, 2]), 1).tolist() == [[0, 2], [3, 5]]
    assert BARE.take(x, np.array([1]), 0).tolist() == [[3, 4, 5]]
    assert BARE.stop_gradient(x) is x
    with BARE.precision("float64"):
        pass


def test_the_generator_is_counter_based() -> None:
    """The numbers are part of the contract: a run resumes, and backends agree."""
    like = np.zeros(1, np.float32)
    u, rng = BARE.uniform(BARE.rng(5), (2, 3), like)
    bits = np.random.Generator(np.random.Philox(key=5, counter=0)).integers(
        0, 2**23, size=(2, 3), dtype=np.uint32
    )
    np.testing.assert_array_equal(u, ((bits + 0.5) * 2.0**-23).astype(np.float32))
    assert rng == (5, 7)  # past the numbers drawn
    again, rng = BARE.uniform(rng, (), like)
    assert rng == (5, 9)
    assert again.shape == ()
    assert BARE.uniform(BARE.rng(5), (2, 3), np.zeros(1))[0].dtype == np.float64
    assert BARE.rng(np.uint64(2**63)) == (2**63, 0)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", None])
def test_bad_seeds(seed: Any) -> None:
    with pytest.raises(L0GateError, match=r"`seed` is .*; it must be an int of at least 0"):
        BARE.rng(seed)


@pytest.mark.parametrize("rng", [7, (1,), (1, 2, 3), [1, 2]])
def test_bad_generators(rng: Any) -> None:
    with pytest.raises(L0GateError, match=r"`rng` is .*; it must be an int, or a generator"):
        BARE.uniform(rng, (1,), np.zeros(1))


def test_seeds_at_both_ends() -> None:
    for seed in (0, 2**64 - 1):
        assert BARE.rng(seed) == (seed, 0)


def test_arrays_beside_another() -> None:
    like = np.zeros(1, np.float16)
    assert zeros(BARE, (2, 3), like).tolist() == [[0.0] * 3] * 2
    assert zeros(BARE, (2,), np.zeros(1), 0.1).tolist() == [0.1, 0.1]


def test_the_sigmoid_stays_finite() -> None:
    x = np.array([-1e4, -1.0, 0.0, 1.0, 1e4])
    wanted = [0.0, 1 / (1 + np.exp(1)), 0.5, 1 / (1 + np.exp(-1)), 1.0]
    np.testing.assert_allclose(sigmoid(BARE, x), wanted, rtol=1e-14)
