"""How arrays are compared, and what is said where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0gate.backends._numpy import NumpyBackend
from l0gate.testing import (
    _compare,
)

NUMPY = NumpyBackend()


COMPARED: list[tuple[Any, Any, str]] = [
    ({"a": np.ones(1)}, {"b": np.ones(1)}, "x has ['a'], but should have ['b']"),
    (np.ones(1), {"b": np.ones(1)}, "x has ndarray, but should have ['b']"),
    (
        {"b": {"c": np.zeros(2)}},
        {"b": {"c": np.ones(2)}},
        "x['b']['c'][0] = 0.0, but should be 1.0",
    ),
    ([np.ones(1)], (np.ones(1), np.ones(1)), "x has 1 entries, not 2"),
    ([np.ones(1), np.zeros(1)], [np.ones(1), np.ones(1)], "x[1][0] = 0.0, but should be 1.0 (1 of"),
    (1.0, 1.0, "x is float, which the backend does not own"),
    (np.ones(2), np.ones(3), "x has shape (2,), but should have (3,)"),
    (np.ones(2, "float32"), np.ones(2), "x has dtype float32, but should have float64"),
    (
        np.array([[1.0, 2.0], [3.0, 5.0]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        "x[1, 1] = 5.0, but sh",
    ),
    (np.array(1.0), np.array(2.0), "x = 1.0, but should be 2.0 (1 of 1 values differ)"),
    (np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]), "x[0] = 1.0, but should be 2.0 (2 of 3"),
    (np.array([1.0 + 3e-10]), np.ones(1), "x[0] = 1.0000000003, but should be 1.0"),
    (np.array([3e-12]), np.zeros(1), "x[0] = 3e-12, but should be 0.0"),
]


@pytest.mark.parametrize(("found", "wanted", "said"), COMPARED)
def test_what_a_comparison_says(found: Any, wanted: Any, said: str) -> None:
    with pytest.raises(AssertionError) as raised:
        _compare.expect(NUMPY, found, wanted, "x", "float64")
    assert str(raised.value).startswith(said)


def test_what_a_comparison_lets_pass() -> None:
    wanted = np.array([1.0, 0.0, np.nan, np.inf])
    near = wanted + np.array([5e-11, 5e-13, 0.0, 0.0])
    _compare.expect(NUMPY, near, wanted, "x", "float64")
    _compare.expect(NUMPY, near, wanted, "x")
    _compare.expect(NUMPY, 1e6 * (near + 1e-9), 1e6 * wanted, "x", "float64", (0.0, 2e-3))
    near = wanted + np.array([5e-5, 5e-7, 0.0, 0.0])
    _compare.expect(NUMPY, near.astype("float32"), wanted, "x", "float32")
    nested = {"a": [np.ones(1), {"b": np.zeros(1)}]}
    close = {"a": (np.ones(1) + 1e-3, {"b": np.zeros(1) + 1e-3})}
    _compare.expect(NUMPY, close, nested, "x", "float64", (0.0, 2e-3))
    for dtype in ("int64", "bool"):
        with pytest.raises(AssertionError, match=r"x\[0\] = "):  # exactly, whatever the tolerance
            _compare.expect(
                NUMPY, np.array([2]).astype(dtype), np.array([0]).astype(dtype), "x", dtype, (9, 9)
            )


def test_to_numpy_must_give_an_array() -> None:
    class GivesLists(NumpyBackend):
        def to_numpy(self, x: Any) -> Any:
            return x.tolist()

    with pytest.raises(AssertionError, match="`to_numpy` of x gives list"):
        _compare.expect(GivesLists(), np.ones(2), np.ones(2), "x")


def test_a_snapshot_tells_what_changed() -> None:
    class Box:
        pass

    class BoxBackend(NumpyBackend):
        def owns(self, x: object) -> bool:
            return isinstance(x, Box)

        def to_numpy(self, x: Any) -> Any:
            return x.values

    box, tree = Box(), {"a": [np.ones(2), (np.zeros(1), "text")], "b": {"c": np.full(2, np.nan)}}
    box.values = np.arange(3.0)  # type: ignore[attr-defined]
    tree["d"] = [box]
    backend = BoxBackend()
    before = _compare.snapshot(backend, tree)
    _compare.unchanged(backend, tree, before, "it")
    changes: list[tuple[np.ndarray, float]] = [
        (tree["a"][0], 2.0),  # type: ignore[index]
        (tree["a"][1][0], 2.0),  # type: ignore[index]
        (tree["b"]["c"], 2.0),  # type: ignore[call-overload]
        (box.values, 2.5),  # type: ignore[attr-defined]
    ]
    for array, value in changes:
        kept, array[0] = array[0], value
        with pytest.raises(AssertionError, match="it changed an array that it was given"):
            _compare.unchanged(backend, tree, before, "it")
        array[0] = kept
    _compare.unchanged(backend, tree, before, "it")
    box.values = box.values.astype(np.float32)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="it changed an array that it was given"):
        _compare.unchanged(backend, tree, before, "it")
