"""The time steps of recurrent layers: one step, NaN, saturation, and the order of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from program_cases import DTYPES, program_layers
from reference_cases import assert_close, leaves, tree_map

from l0gate.reference import Net, StreamingNet
from l0gate.reference.compiled.inference.program import Program


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_a_sequence_of_one(dtype):
    layers, _ = program_layers(dtype)
    program = Program(layers)
    rng = np.random.default_rng(1)
    x, state = rng.standard_normal(5).astype(dtype), np.ones(program.state_size, dtype)
    x.flags.writeable = state.flags.writeable = False
    y, after = program(x[None, None], state)
    out = program.step(x, state)
    np.testing.assert_array_equal(out[program.state_size :], y[0, 0])
    np.testing.assert_array_equal(out[: program.state_size], after)
    longer = np.concatenate([state, np.full(3, np.nan, dtype)])  # what a step has made is longer
    np.testing.assert_array_equal(program.step(x, longer), out)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_in_its_sequence_and_is_not_lost(dtype, exact):
    program = Program(program_layers(dtype)[0], exact)
    x, state = np.ones((3, 3, 5), dtype), np.ones(3 * program.state_size, dtype)
    x[1, 1, 0] = np.nan
    y, after = program(x, state)
    assert np.isnan(y[1:, 1]).all()
    assert np.isfinite(y[0]).all()
    assert np.isfinite(y[:, [0, 2]]).all()
    h = after[: 3 * 9].reshape(3, 9)
    assert np.isnan(h[1]).all()
    assert np.isfinite(h[[0, 2]]).all()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru before"])
def test_saturated_gates_are_exact(kind, exact):
    blocks = 4 if kind == "lstm" else 3
    bias = np.full(blocks * 3, np.inf, np.float32)
    zeros = np.zeros((blocks * 3, 1), np.float32), np.zeros((blocks * 3, 3), np.float32)
    for sign in (1, -1):
        given = ("lstm",) if kind == "lstm" else ("gru",)
        extra = () if kind == "lstm" else (None, kind == "gru")
        program = Program([[(*given, False, *zeros, sign * bias, *extra)]], exact)
        y, after = program(np.zeros((4, 1, 1), np.float32), np.zeros(program.state_size, "f4"))
        assert np.isfinite(y).all()
        assert np.isfinite(after).all()


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


def outputs(bound: StreamingNet, x: Any, state: Any = None) -> list[Any]:
    found = []
    for x_t in x:
        y_t, state = bound.step(x_t, state)
        found.append(y_t)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(70, 30), (200, 150), (20, 420)])
@pytest.mark.parametrize("layer", [("lstm", True), ("gru", True), ("gru", False)])
def test_the_order_of_the_blocks_changes_nothing(
    layer: tuple[str, bool], sizes: tuple[int, int], dtype: type
) -> None:
    """A stream takes the blocks of a matrix forward and backward in turn, near or far ones."""
    kind, reset_after = layer
    options = {"reset_after": reset_after} if kind == "gru" else {}
    made = Net([{"type": kind, "name": "rnn", "num_layers": 2, **options}])
    rng = np.random.default_rng(0)
    bound = made.bind(made.init(rng, input_size=9, sizes={"rnn": sizes}, dtype=dtype))
    x = rng.standard_normal((5, 9)).astype(dtype)
    stream, (y, last) = bound.stream(), bound(x[:, None])
    found = [stream.step(x_t) for x_t in x]
    assert_equal(found, outputs(bound, x))
    assert_close(np.array(found), y[:, 0], dtype)
    assert_close(stream.state, tree_map(lambda a: a[0], last), dtype)
