"""Programs: what they refuse, and exact activations."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.reference import Net
from l0gate.reference.compiled.inference.program import Program


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([[("tanh", False)]], "`layers` have no weights"),
        ([[("linear", False, np.zeros((2, 3)), None)]] * 2, r"`linear weight` has .* \(2, 2\)"),
        ([[("linear", False, np.zeros((2, 3), np.int64), None)]], "weight` has dtype int64"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(L0GateError, match=message):
        Program(layers)


def test_a_program_is_not_copied():
    program = Program([[("linear", False, np.zeros((2, 3), np.float32), None)]])
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            copied(program)


def test_arrays_that_do_not_fit_are_refused():
    program = Program([[("linear", False, np.zeros((2, 3), np.float32), None)]])
    lstm = Program([[("lstm", False, np.zeros((8, 3), "f4"), np.zeros((8, 2), "f4"), None)]])
    state = np.zeros(0, np.float32)
    with pytest.raises(L0GateError, match=r"`x` has shape \(1, 1, 4\).*expected 3 features"):
        program(np.zeros((1, 1, 4), np.float32), state)
    with pytest.raises(L0GateError, match=r"`x` has shape \(2,\).*expected 3 features"):
        program.step(np.zeros(2, np.float32), state)
    with pytest.raises(L0GateError, match="for each sequence 4 numbers"):
        lstm(np.zeros((1, 2, 3), np.float32), np.zeros(7, np.float32))
    with pytest.raises(L0GateError, match="for each sequence 4 numbers"):
        lstm.step(np.zeros(3, np.float32), np.zeros(3, np.float32))
    for x in (np.zeros(3), np.zeros(6, np.float32)[::2]):
        with pytest.raises(TypeError, match="No matching definition"):
            lstm.step(x, np.zeros(4, np.float32))


def test_exact_activations_are_closer_to_float64():
    net = Net([{"type": "lstm", "name": "rnn"}])
    parameters = net.init(np.random.default_rng(0), input_size=1, sizes={"rnn": 1})
    x = np.random.default_rng(1).uniform(-9, 9, (1, 20_000, 1)).astype(np.float32)
    wide = {name: array.astype(np.float64) for name, array in parameters.items()}
    expected = net.bind(wide, engine="numpy")(x.astype(np.float64))[0]
    errors = [
        np.abs(net.bind(parameters, engine="numba", exact=exact)(x)[0] - expected).mean()
        for exact in (False, True)
    ]
    assert errors[1] < errors[0] < 1e-6
