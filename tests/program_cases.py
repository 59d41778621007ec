"""A chain of all kinds of layers for `Program`, and the same chain by NumPy's scans."""

from __future__ import annotations

import numpy as np

from l0gate.reference._engine import NUMPY
from l0gate.reference._scan import sigmoid

DTYPES = [np.float32, np.float64]


TOLERANCE = {
    np.dtype(np.float32): {"rtol": 1e-4, "atol": 1e-6},
    np.dtype(np.float64): {"rtol": 1e-10, "atol": 1e-12},
}


def program_layers(dtype, hidden=(9, 40, 3), bidirectional=False, seed=0, inputs=5):
    """Layers for `Program`, and the same chain by the NumPy scans: (y, the last states)."""
    rng = np.random.default_rng(seed)
    ends = (False, True) if bidirectional else (False,)
    many = len(ends)

    def random(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(dtype)

    def recurrent(blocks, inputs, hidden):
        shapes = (inputs,), (hidden,), ()
        return [random(blocks * hidden, *shape) for shape in shapes]

    a, b, c = hidden
    layers = [
        [("lstm", reverse, *recurrent(4, inputs, a)) for reverse in ends],
        [("tanh", False)],
        [("gru", end, *recurrent(3, many * a, b), random(b), True) for end in ends],
        [("sigmoid", False)],
        [("gru", end, *recurrent(3, many * b, c), None, False) for end in ends],
        [("linear", False, random(37, many * c), random(37))],
        [("relu", False)],
        [("linear", False, random(2, 37), None)],
        [("sigmoid", False)],
    ]
    functions = {
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "relu": lambda x: np.maximum(x, 0),
    }

    def scan(x, states, lengths, kind, reverse, *arrays):
        options = {"lengths": lengths, "reverse": reverse}
        gx = x @ arrays[0].T + arrays[2]
        if kind == "lstm":
            y, *last, _ = NUMPY.lstm_scan(gx, arrays[1], next(states), next(states), **options)
        else:
            bias = np.zeros(arrays[1].shape[1], dtype) if arrays[3] is None else arrays[3]
            y, *last, _ = NUMPY.gru_scan(gx, arrays[1], bias, next(states), arrays[4], **options)
        return y, last

    def run(x, states, lengths=None):
        states, after = iter(states), []
        for layer in layers:
            kind, _, *arrays = layer[0]
            if kind in ("lstm", "gru"):
                found = [scan(x, states, lengths, *end) for end in layer]
                x = np.concatenate([y for y, _ in found], axis=2)
                after += [part for _, last in found for part in last]
            elif kind == "linear":
                x = x @ arrays[0].T + (0 if arrays[1] is None else arrays[1])
            else:
                x = functions[kind](x)
        return x, after

    return layers, run


def flat(states, dtype):
    return np.concatenate([np.empty(0, dtype), *(state.ravel() for state in states)])


def close(found, expected, dtype):
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, **TOLERANCE[np.dtype(dtype)])


def arrays_of(state):
    return [a for entry in state for a in (entry if isinstance(entry, tuple) else [entry])]
