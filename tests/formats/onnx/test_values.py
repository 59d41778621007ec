"""What the reader knows about values."""

from __future__ import annotations

import numpy as np
import pytest

import l0gate
from l0gate.formats._onnx.order import DIRECTIONS, FEATURES
from l0gate.formats._onnx.values import Dims, Node, Stream
from l0gate.formats.layers import Activation, Linear

X = Stream("x", (("0",), ("1",), (FEATURES,)), 8, {"0": None, "1": 4})


def test_directions_before_features_become_features() -> None:
    both = Stream("x", (("0",), (DIRECTIONS,), (FEATURES,)), 8, {"0": None})
    assert not both.ends_in_features
    merged = both.moved((("0",), (DIRECTIONS, FEATURES)))
    assert (merged.axes[-1], merged.width, merged.ends_in_features) == ((FEATURES,), 16, True)


def test_sizes_of_axes() -> None:
    assert X.dims() == Dims(((1, ("0",)), (4, ()), (8, ())))


def test_layers_follow_each_other() -> None:
    y = X.then(Linear("a", np.ones((2, 8), np.float32), None), 2)
    biased = y.with_bias(np.ones(2, np.float32))
    assert y.layers[-1].bias is None  # type: ignore[union-attr]
    assert biased.layers[-1].bias is not None  # type: ignore[union-attr]
    for _ in range(998):
        y = y.then(Activation("tanh"), 2)
    with pytest.raises(l0gate.L0GateError, match=r"1,000 layers"):
        y.then(Activation("tanh"), 2).then(Activation("tanh"), 2)


def test_nodes() -> None:
    node = Node("Squeeze", "/gru/cell/Squeeze", {"axes": [1]}, (X,))
    assert node.numbers(1, "axes") == [1]
    assert node.input(5) is None
    assert node.scope == "gru.cell"
    assert Node("Squeeze", "", {}, (X, np.array([2]))).numbers(1, "axes") == [2]
    assert Node("GRU", "a\x00/b", {}, (), verbatim=True).scope == "a_/b"
