"""Layers of all types in one chain: gradients, and gates of the axes between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference_cases import (
    ENGINES,
    MIXED,
    MIXED_GATES,
    MIXED_SIZES,
    assert_close,
    assert_gradient,
    dot,
    normal_like,
)

from l0gate.reference import Net


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mixed_chain_matches_differences(engine: str, batch_first: bool) -> None:
    net = Net(MIXED, batch_first=batch_first)
    rng = np.random.default_rng(1)
    parameters = net.init(rng, input_size=4, sizes=MIXED_SIZES, dtype=np.float64)
    gates = {axis: rng.uniform(size=size) for axis, size in MIXED_GATES.items()}
    at = {"parameters": parameters, "x": rng.standard_normal((3, 4, 4)), "gates": gates}
    y, state, tape = net.forward(**at, engine=engine)
    dy, dstate = normal_like(rng, (y, state))
    gradients, dx, _, gate_gradients = net.backward(tape, dy, dstate)
    assert set(gate_gradients) == set(gates)
    assert set(gradients) == set(net.parameter_names)

    def value(at: dict[str, Any]) -> float:
        return dot(net.forward(**at, engine=engine)[:2], (dy, dstate))

    assert_gradient(value, at, {"parameters": gradients, "x": dx, "gates": gate_gradients}, 2)


def test_gates_that_are_not_given_are_open() -> None:
    net = Net(MIXED)
    rng = np.random.default_rng(1)
    parameters = net.init(rng, input_size=4, sizes=MIXED_SIZES, dtype=np.float64)
    x = rng.standard_normal((3, 2, 4))
    some = {"b0": rng.uniform(size=4)}
    every = {axis: np.ones(size) for axis, size in MIXED_GATES.items()} | some
    y, _, tape = net.forward(parameters, x, gates=some)
    y_every, _, tape_every = net.forward(parameters, x, gates=every)
    assert_close(y, y_every)
    gate_gradients = net.backward(tape, np.ones_like(y))[3]
    assert list(gate_gradients) == ["b0"]
    assert_close(gate_gradients["b0"], net.backward(tape_every, np.ones_like(y))[3]["b0"])
