"""Operators on constants and on shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate.formats._onnx.constants import computed_dims, folded
from l0gate.formats._onnx.values import Dims, Node, Unknown

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def fold(operator: str, *arrays: Any, outputs: int = 1, **attributes: Any) -> Any:
    values = tuple(np.asarray(a) for a in arrays)
    node = Node(operator, "n", attributes, values, outputs=outputs)
    return folded(node, values, 1000)


@pytest.mark.parametrize(
    ("operator", "rest", "attributes", "expected"),
    [
        ("Identity", (), {}, X),
        ("Transpose", (), {}, X.T),
        ("Transpose", (), {"perm": [1, 0]}, X.T),
        ("Unsqueeze", ([0],), {}, X[None]),
        ("Unsqueeze", (), {"axes": [0]}, X[None]),
        ("Concat", (X,), {"axis": 1}, np.hstack([X, X])),
        ("Gather", ([2, 0],), {}, X[[2, 0]]),
        ("Shape", (), {}, [3, 4]),
        ("Slice", ([1], [3], [1], [1]), {}, X[:, 1:3]),
        ("Slice", ([-1], [-(2**40)], [0], [-1]), {}, X[::-1]),
        ("Slice", (), {"starts": [1], "ends": [2**40]}, X[1:]),
        ("Reshape", ([0, -1, 2],), {}, X.reshape(3, 2, 2)),
        ("Cast", (), {"to": 7}, X.astype(np.int64)),
        ("Add", (X[:1],), {}, X + X[:1]),
    ],
)
def test_folding(operator: str, rest: Any, attributes: Any, expected: Any) -> None:
    (found,) = fold(operator, X, *rest, **attributes)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.asarray(expected).dtype


def test_splits() -> None:
    for parts in (fold("Split", X, outputs=2, axis=1), fold("Split", X, [1, 3], axis=1)):
        np.testing.assert_array_equal(np.hstack(parts), X)


def test_what_does_not_fit_is_noted() -> None:
    for operator, rest in (("Reshape", ([5, 5],)), ("Gather", ([9],)), ("Cast", ()), ("Erf", ())):
        (found,) = fold(operator, X, *rest)
        assert isinstance(found, Unknown)


def test_constants_do_not_grow() -> None:
    with pytest.raises(l0gate.L0GateError, match="larger arrays than it holds"):
        fold("Concat", *[X] * 30, axis=0)
    with pytest.raises(l0gate.L0GateError, match="larger arrays than it holds"):
        fold("Gather", X, [0] * 100)
    (found,) = fold("Add", X[:, None], X[None])
    assert isinstance(found, Unknown)


def dims(operator: str, *values: Any, **attributes: Any) -> Any:
    (found,) = computed_dims(Node(operator, "n", attributes, values))
    return found


def test_shapes() -> None:
    T, B, H = (1, ("0",)), (1, ("1",)), (8, ())
    shape = Dims((T, B, H))
    one = dims("Gather", shape, np.array(1))
    assert one == Dims((B,), True)
    assert dims("Unsqueeze", one, np.array([0])) == Dims((B,))
    assert dims("Slice", shape, np.array([0]), np.array([2])) == Dims((T, B))
    assert dims("Concat", Dims((T,)), np.array([16])) == Dims((T, (16, ())))
    assert dims("Mul", Dims((H,)), np.array([2])) == Dims(((16, ()),))
    assert dims("Mul", Dims((T,)), Dims((B,))) == Dims(((1, ("0", "1")),))
    assert dims("Cast", shape) == shape
    assert isinstance(dims("Div", shape, shape), Unknown)
    assert isinstance(dims("Gather", shape, np.array(7)), Unknown)
    assert isinstance(dims("Concat", *[shape] * 30), Unknown)
