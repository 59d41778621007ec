"""Stacks of LSTM and GRU layers: gates, and all gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import (
    ENGINES,
    Problem,
    assert_close,
    assert_gradient,
    dot,
    normal_like,
    problems,
)


def _fold(problem: Problem) -> dict[str, np.ndarray]:
    """The gates multiplied into the columns of the weights that read them."""
    layer, folded = problem.layer, dict(problem.parameters)
    for k in range(layer["num_layers"]):
        names = ("f", "b") if layer["bidirectional"] else ("h",)
        read = (
            problem.gates["x"]
            if k == 0
            else np.concatenate([problem.gates[f"{name}{k - 1}"] for name in names])
        )
        for name, suffix in zip(names, ("", "_reverse"), strict=False):
            folded[f"weight_ih_l{k}{suffix}"] = folded[f"weight_ih_l{k}{suffix}"] * read
            own = problem.gates[f"{name}{k}"]
            folded[f"weight_hh_l{k}{suffix}"] = folded[f"weight_hh_l{k}{suffix}"] * own
    return folded


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True))
def test_explicit_gates_equal_folded_parameters(engine: str, problem: Problem) -> None:
    net, given_ = problem.net, (problem.x, problem.state)
    y, state, tape = net.forward(
        problem.parameters, *given_, lengths=problem.lengths, gates=problem.gates, engine=engine
    )
    folded = _fold(problem)
    expected = net.forward(folded, *given_, lengths=problem.lengths, engine=engine)
    assert_close((y, state), expected[:2])
    assert_close((y, state), net.apply(folded, *given_, lengths=problem.lengths, engine=engine))

    dy, dstate = normal_like(np.random.default_rng(problem.seed), (y, state))
    gradients, dx, dstate0, gate_gradients = net.backward(tape, dy, dstate)
    expected_gradients, *expected_rest, none = net.backward(expected[2], dy, dstate)
    assert none == {}
    assert_close((dx, dstate0), tuple(expected_rest))
    for name, gradient in gradients.items():
        if name.startswith("bias"):
            assert_close(gradient, expected_gradients[name])
    # A gate scales a whole column: z dL/dz sums w dL/dw over the columns that read the neuron.
    scaled = {name: (array * problem.gates[name]).sum() for name, array in gate_gradients.items()}
    total = dot(folded, {k: v if "weight" in k else 0 * v for k, v in expected_gradients.items()})
    readers = sum(scaled.values())
    np.testing.assert_allclose(readers, total, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True), gated=st.booleans())
def test_all_gradients_match_differences(engine: str, problem: Problem, gated: bool) -> None:
    net, rng = problem.net, np.random.default_rng(problem.seed)
    at = {
        "parameters": problem.parameters,
        "x": problem.x,
        "state": problem.state,
        "gates": problem.gates if gated else {},
    }

    def run(at: dict[str, Any]) -> tuple[Any, Any, Any]:
        return net.forward(**at, lengths=problem.lengths, engine=engine)

    y, state, tape = run(at)
    dy, dstate = normal_like(rng, (y, state))
    gradients, dx, dstate0, gate_gradients = net.backward(tape, dy, dstate)
    gradient = {"parameters": gradients, "x": dx, "state": dstate0, "gates": gate_gradients}
    assert_gradient(lambda at: dot(run(at)[:2], (dy, dstate)), at, gradient, problem.seed)
