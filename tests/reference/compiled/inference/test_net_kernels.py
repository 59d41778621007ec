"""Whole nets in one compiled call, against NumPy's scans: sequences and steps in place."""

from __future__ import annotations

import numpy as np
import pytest
from program_cases import DTYPES, close, flat, program_layers

from l0gate.reference.compiled import threads
from l0gate.reference.compiled.inference.program import Program


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("T", "B"), [(7, 1), (3, 2), (4, 4), (5, 13), (200, 1), (1, 40), (0, 2)])
def test_sequences_equal_the_scans(dtype, exact, bidirectional, padded, T, B):
    layers, run = program_layers(dtype, (9, 40, 3) if T % 2 else (16, 33, 8), bidirectional)
    program = Program(layers, exact)
    rng = np.random.default_rng(T)
    x = rng.standard_normal((T, B, 5)).astype(dtype)
    before = [rng.standard_normal((B, size)).astype(dtype) for size in program.state_sizes]
    lengths = rng.integers(0, T + 1, B) if padded else None
    state = flat(before, dtype)
    x.flags.writeable = state.flags.writeable = False
    y, after = program(x, state, lengths)
    expected, last = run(x, before, lengths)
    close(y, expected, dtype)
    close(after, flat(last, dtype), dtype)
    assert not np.shares_memory(after, y)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_threads_change_nothing(bidirectional, monkeypatch):
    layers, _ = program_layers(np.float32, bidirectional=bidirectional)
    rng = np.random.default_rng(2)
    x, lengths = rng.standard_normal((6, 17, 5)).astype(np.float32), rng.integers(0, 7, 17)
    for given in (None, lengths):
        monkeypatch.setattr(threads, "_threads", 1)
        program = Program(layers)
        state = rng.standard_normal(17 * program.state_size).astype(np.float32)
        expected = program(x, state, given)
        for count in (2, 5, 40):
            monkeypatch.setattr(threads, "_threads", count)
            monkeypatch.setattr(program, "_single", 0)
            monkeypatch.setattr(threads, "LEAST_WORK", 0)
            for a, b in zip(program(x, state, given), expected, strict=True):
                close(a, b, np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(9, 40, 3), (16, 33, 8), (1, 2, 150)])
def test_a_step_in_place_keeps_to_its_workspace(dtype, hidden):
    layers, _ = program_layers(dtype, hidden)
    program = Program(layers)
    size, whole = program.state_size, np.full(program.workspace_size + 64, 7, dtype)
    workspace = whole[: program.workspace_size]
    workspace[:] = 0
    run, where, _held = program.bare_in_place(workspace)
    rng, state = np.random.default_rng(3), np.zeros(size, dtype)
    for _ in range(4):
        x = rng.standard_normal(5).astype(dtype)
        assert run(where, x)
        out = program.step(x, state)
        state = out[:size]
        np.testing.assert_array_equal(workspace[: program.step_size], out)
    for wrong in (x[:4], np.zeros(6, dtype), np.zeros(10, dtype)[::2]):
        assert not run(where, wrong)
    np.testing.assert_array_equal(workspace[: program.step_size], out)
    assert (whole[program.workspace_size :] == 7).all()
