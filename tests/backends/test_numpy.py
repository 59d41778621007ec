"""The NumPy backend: arrays as they are, and nets of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import l0gate
from l0gate import Budget, Pruner
from l0gate._chain import Chain

NUMPY = l0gate.get_backend("numpy")
LAYERS = [
    {"type": "embedding", "name": "e"},
    {"type": "lstm", "name": "r"},
    {"type": "linear", "name": "out"},
]


def net_and_numbers() -> tuple[Any, dict[str, np.ndarray]]:
    net = NUMPY.net(LAYERS)
    sizes = {"e": 4, "r": 6, "out": 2}
    return net, net.init(np.random.default_rng(0), input_size=5, sizes=sizes)


def test_it_owns_arrays_and_bound_nets_alone() -> None:
    net, parameters = net_and_numbers()
    assert NUMPY.owns(np.zeros(2))
    assert NUMPY.owns(np.float32(2))
    assert not NUMPY.owns([1.0])
    assert NUMPY.owns_model(net.bind(parameters))
    assert not NUMPY.owns_model(parameters)


def test_casts_copy_only_where_the_dtype_changes() -> None:
    x = np.ones(2, np.float32)
    assert NUMPY.cast(x, "float32") is x
    assert NUMPY.cast(x, "float64").dtype == np.float64


def test_a_bound_net_is_saved_with_the_axes_of_its_chain(tmp_path: Path) -> None:
    net, parameters = net_and_numbers()
    found = NUMPY.describe(net.bind(parameters))
    assert dict(found.dense_sizes) == {"x": 4, "h0": 6}
    assert {axis: index.tolist() for axis, index in found.kept.items()} == {
        "x": list(range(4)),
        "h0": list(range(6)),
    }
    chain = Chain(LAYERS)
    pruner = Pruner(chain.layout, Budget(parameters=0.5))
    state = pruner.select(pruner.init(parameters), parameters)
    small, kept = pruner.shrink(parameters, state)
    bound = net.bind(small)
    l0gate.save(tmp_path / "net.npz", bound)
    again = l0gate.load(tmp_path / "net.npz")
    assert NUMPY.describe(again) is again.saved
    assert dict(again.saved.dense_sizes) == {axis: len(index) for axis, index in kept.items()}
    x = np.array([[1], [4]])
    np.testing.assert_allclose(again(x)[0], bound(x)[0], rtol=1e-4, atol=1e-6)
