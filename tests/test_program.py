"""Whole nets in one compiled call, against the NumPy scans."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.reference import Net, _cells
from l0gate.reference.compiled import threads
from l0gate.reference.compiled.inference import layers
from l0gate.reference.compiled.inference.program import Program

DTYPES = [np.float32, np.float64]
TOLERANCE = {
    np.dtype(np.float32): {"rtol": 1e-4, "atol": 1e-6},
    np.dtype(np.float64): {"rtol": 1e-10, "atol": 1e-12},
}


def chain(dtype, hidden=(9, 40, 3), bidirectional=False, seed=0, inputs=5):
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
        "sigmoid": _cells.sigmoid,
        "relu": lambda x: np.maximum(x, 0),
    }

    def scan(x, states, lengths, kind, reverse, *arrays):
        options = {"lengths": lengths, "reverse": reverse}
        gx = x @ arrays[0].T + arrays[2]
        if kind == "lstm":
            y, *last, _ = _cells.lstm_scan(gx, arrays[1], next(states), next(states), **options)
        else:
            bias = np.zeros(arrays[1].shape[1], dtype) if arrays[3] is None else arrays[3]
            y, *last, _ = _cells.gru_scan(gx, arrays[1], bias, next(states), arrays[4], **options)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("T", "B"), [(7, 1), (3, 2), (4, 4), (5, 13), (200, 1), (1, 40), (0, 2)])
def test_sequences_equal_the_scans(dtype, exact, bidirectional, padded, T, B):
    layers, run = chain(dtype, (9, 40, 3) if T % 2 else (16, 33, 8), bidirectional)
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_a_sequence_of_one(dtype):
    layers, _ = chain(dtype)
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


@pytest.mark.parametrize("bidirectional", [False, True])
def test_threads_change_nothing(bidirectional, monkeypatch):
    layers, _ = chain(np.float32, bidirectional=bidirectional)
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


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_in_its_sequence_and_is_not_lost(dtype, exact):
    program = Program(chain(dtype)[0], exact)
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


def test_exact_float32_is_the_float64_result_rounded_at_every_activation():
    """Without products, one step of an LSTM is nothing but activations."""
    x = np.random.default_rng(3).uniform(-8, 8, (1, 500, 1)).astype(np.float32)
    weight_ih, weight_hh = np.float32([[0.5], [-1], [1.25], [2]]), np.zeros((4, 1), np.float32)
    program = Program([[("lstm", False, weight_ih, weight_hh, None)]], exact=True)
    c = np.linspace(-3, 3, 500, dtype=np.float32)
    y, _ = program(x, np.concatenate([np.zeros(500, np.float32), c]))

    def rounded(function, a):
        return function(a.astype(np.float64)).astype(np.float32)

    def sigmoid(a):
        # The library's exp is rounded; what follows is float32.
        return 1 / (rounded(np.exp, -a) + np.float32(1))

    i, f, g, o = (weight_ih * x.ravel()).astype(np.float32)
    expected = sigmoid(f).astype(np.float64) * c + (sigmoid(i) * rounded(np.tanh, g))
    h = sigmoid(o) * rounded(np.tanh, expected.astype(np.float32))
    np.testing.assert_allclose(y.ravel(), h, rtol=3e-7)


def test_fast_activations_of_a_block_are_those_of_the_loops():
    """Sums of products of one number each: the gates are the activations themselves."""
    x = np.linspace(-20, 20, 4001, dtype=np.float32).reshape(1, -1, 1)
    weight = np.float32([[1], [0], [0]])  # r = sigmoid(x), z = 1/2, n = tanh(r * hn)
    program = Program(
        [[("gru", False, weight, np.zeros((3, 1), np.float32), None, np.float32([20]), True)]]
    )
    y, _ = program(x, np.zeros(4001, np.float32))
    r = 1 / (1 + np.exp(-x.ravel().astype(np.float64)))
    np.testing.assert_allclose(y.ravel(), np.tanh(20 * r) / 2, rtol=2e-6)


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


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_bound_net_takes_arrays_in_any_order(batch_first):
    net = Net([{"type": "gru", "name": "rnn"}], batch_first=batch_first)
    parameters = net.init(np.random.default_rng(0), input_size=6, sizes={"rnn": 4})
    bound, plain = (net.bind(parameters, engine=engine) for engine in ("numba", "numpy"))
    x = np.random.default_rng(1).standard_normal((3, 5, 12)).astype(np.float32)
    for given in (x[..., ::2], x[::-1, :, :6], np.asfortranarray(x[..., :6])):
        close(bound(given)[0], plain(given)[0], np.float32)
        time = given.swapaxes(0, 1) if batch_first else given
        close(bound.step(time[0])[0], plain.step(time[0])[0], np.float32)
        close(bound.step(time[0, 0])[0], plain.step(time[0, 0])[0], np.float32)
    unaligned = np.frombuffer(b"\0" + x[..., :6].tobytes(), np.uint8)[1:].view(np.float32)
    unaligned = unaligned.reshape(3, 5, 6)
    assert not unaligned.flags.aligned
    close(bound(unaligned)[0], plain(x[..., :6])[0], np.float32)
    close(bound.step(unaligned[0, 0])[0], plain.step(x[0, 0, :6])[0], np.float32)


@pytest.mark.parametrize("layers", [["lstm"], ["gru"], ["lstm", "gru"], ["gru", "lstm", "linear"]])
def test_a_stream_takes_whatever_comes_between(layers):
    """A step after the first goes the short way, which must know what it cannot take."""
    net = Net([{"type": kind, "name": f"{kind}{i}"} for i, kind in enumerate(layers)])
    sizes = {f"{kind}{i}": 5 for i, kind in enumerate(layers) if kind != "linear"}
    if layers[-1] == "linear":
        sizes["linear2"] = 3
    parameters = net.init(np.random.default_rng(0), input_size=6, sizes=sizes)
    bound, plain = (net.bind(parameters, engine=engine) for engine in ("numba", "numpy"))
    x = np.random.default_rng(1).standard_normal(12).astype(np.float32)
    fixed = x[:6].copy()
    fixed.setflags(write=False)
    shifted = np.frombuffer(b"\0" + x[:6].tobytes(), np.uint8)[1:].view(np.float32)
    same = {"list": lambda s: list(s), "copy": copy.deepcopy, "like it": lambda s: type(s)(s)}
    same |= {"pickled": lambda s: pickle.loads(pickle.dumps(s)), "itself": lambda s: s}
    wide = {"other": lambda s: type(s)(_like(entry, 2.0) for entry in s)}
    step = bound.step  # looked up once, as loops do
    _, state = step(x[:6])
    _, expected = plain.step(x[:6])
    inputs = [x[:6], x[::2], x[5::-1], fixed, shifted, x[:6].tolist()]
    inputs += [x[:6].astype(dtype) for dtype in (">f4", np.float64)]
    for given in inputs:
        for copied in (same | wide).values():
            y, new = step(given, copied(state))
            y_plain, new_plain = plain.step(np.array(given, np.float32), copied(expected))
            close(y, y_plain, np.float32)
            for ours, theirs in zip(_arrays(new), _arrays(new_plain), strict=True):
                close(ours, theirs, np.float32)
    for wrong, message in ((x[:5], "the 6 input features"), (x[:6].view("i4"), "dtype int32")):
        with pytest.raises(L0GateError, match=message):
            bound.step(wrong, state)


@pytest.mark.parametrize("layers", [["lstm"], ["gru", "lstm"], ["linear", "gru"]])
def test_short_sequences_take_whatever_comes_between(layers):
    net = Net([{"type": kind, "name": f"{kind}{i}"} for i, kind in enumerate(layers)])
    sizes = {f"{kind}{i}": 4 + i for i, kind in enumerate(layers)}
    parameters = net.init(np.random.default_rng(0), input_size=6, sizes=sizes)
    bound, plain = (net.bind(parameters, engine=engine) for engine in ("numba", "numpy"))
    x = np.random.default_rng(1).standard_normal((4, 3, 12)).astype(np.float32)
    narrow = x[..., :6].copy()
    fixed = narrow.copy()
    fixed.setflags(write=False)
    same = [narrow, fixed, narrow.tolist(), narrow.astype(">f4"), np.asfortranarray(narrow)]
    same += [x[..., :6], np.broadcast_to(narrow[:1], narrow.shape), narrow[::-1], x[:, ::-1, ::2]]
    same += [narrow[:1], narrow[:, :1], narrow[:1, :1], x[:1, :1, ::2], x[::4, :1, 5::-1]]
    for given in same:
        array = np.asarray(given, np.float32)
        batch = array.shape[1]
        _, state = bound(np.zeros((2, batch, 6), np.float32) + 1)
        _, expected = plain(np.zeros((2, batch, 6), np.float32) + 1)
        for own, theirs in ((None, None), (state, expected), (copy.deepcopy(state), expected)):
            y, new = bound(given, own)
            y_plain, new_plain = plain(array, theirs)
            close(y, y_plain, np.float32)
            for ours, his in zip(_arrays(new), _arrays(new_plain), strict=True):
                assert ours.shape == his.shape
                close(ours, his, np.float32)
    _, state = bound(narrow)
    for engine in (bound, plain):
        with pytest.raises(L0GateError, match=r"`state\[0\]` has an array of shape \(3, "):
            engine(narrow[:, :2], state)
        with pytest.raises(L0GateError, match="the 6 input features"):
            engine(narrow[..., :5])
        with pytest.raises(L0GateError, match="dtype int32"):
            engine(narrow.view("i4"))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_state_of_no_sequence_has_its_neurons(cell):
    net = Net([{"type": cell, "name": "rnn"}])
    parameters = net.init(np.random.default_rng(0), input_size=6, sizes={"rnn": 4})
    bound = net.bind(parameters, engine="numba")
    state = None
    for _ in range(2):
        y, state = bound(np.zeros((3, 0, 6), np.float32), state)
        assert y.shape == (3, 0, 4)
        assert {array.shape for array in _arrays(state)} == {(0, 4)}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stream_of_tokens_takes_whatever_comes_between(cell):
    net = Net([{"type": kind, "name": kind} for kind in ("embedding", cell, "linear")])
    sizes = {"embedding": 5, cell: 4, "linear": 7}
    parameters = net.init(np.random.default_rng(0), input_size=7, sizes=sizes)
    bound, plain = (net.bind(parameters, engine=engine) for engine in ("numba", "numpy"))
    wide = {**parameters, "embedding.weight": np.asfortranarray(parameters["embedding.weight"])}
    turned = net.bind(wide, engine="numba")
    (_, state), (_, expected) = bound.step(3), plain.step(3)
    for token in (0, 6, np.int64(2), np.int32(2), np.uint8(2), np.array(2)):
        y, new = bound.step(token, state)
        y_plain, new_plain = plain.step(token, expected)
        close(y, y_plain, np.float32)
        close(turned.step(token, turned.step(3)[1])[0], y_plain, np.float32)
        for ours, theirs in zip(_arrays(new), _arrays(new_plain), strict=True):
            close(ours, theirs, np.float32)
    for token, message in ((7, "7"), (-1, "-1"), (np.int64(-1), "-1"), (2.0, "float64")):
        for engine, own in ((bound, state), (plain, expected)):
            with pytest.raises(L0GateError, match=message):
                engine.step(token, own)


def _arrays(state):
    return [a for entry in state for a in (entry if isinstance(entry, tuple) else [entry])]


def _like(entry, factor):
    """An entry of a state whose arrays lie in the middle of others."""
    if isinstance(entry, tuple):
        return tuple(_like(part, factor) for part in entry)
    return np.stack([entry * 0, entry * factor, entry])[1]


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(9, 40, 3), (16, 33, 8), (1, 2, 150)])
def test_a_step_in_place_keeps_to_its_place(dtype, hidden):
    layers, _ = chain(dtype, hidden)
    program = Program(layers)
    size, whole = program.state_size, np.full(program.place_size + 64, 7, dtype)
    place = whole[: program.place_size]
    place[:] = 0
    run, where, _held = program.bare_in_place(place)
    rng, state = np.random.default_rng(3), np.zeros(size, dtype)
    for _ in range(4):
        x = rng.standard_normal(5).astype(dtype)
        assert run(where, x)
        out = program.step(x, state)
        state = out[:size]
        np.testing.assert_array_equal(place[: program.step_size], out)
    for wrong in (x[:4], np.zeros(6, dtype), np.zeros(10, dtype)[::2]):
        assert not run(where, wrong)
    np.testing.assert_array_equal(place[: program.step_size], out)
    assert (whole[program.place_size :] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [(1, 3, 1), (2, 20, 70), (20, 70, 3)])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (7, 1), (3, 4), (120, 2), (2, 110), (1, 5)])
def test_many_inputs_of_few_neurons(dtype, hidden, T, B):
    """The input matrix is packed densely: where that is depends on the width of a vector."""
    layers, run = chain(dtype, hidden, inputs=80)
    program = Program(layers)
    rng = np.random.default_rng(T)
    x = 0.3 * rng.standard_normal((T, B, 80)).astype(dtype)
    before = [rng.standard_normal((B, size)).astype(dtype) for size in program.state_sizes]
    lengths = rng.integers(0, T + 1, B)
    for given in (None, lengths):
        y, after = program(x, flat(before, dtype), given)
        expected, last = run(x, before, given)
        close(y, expected, dtype)
        close(after, flat(last, dtype), dtype)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_dense_packing_is_never_wider(lanes):
    found = set()
    for gates in (3, 4):
        for H in range(1, 100):
            dense, blocked = (layers.columns_of(lanes, gates, H, way) for way in (True, False))
            assert gates * H <= dense
            if layers.is_dense(lanes, gates, H, 64):
                found.add(H)
                assert dense <= 0.8 * blocked
            assert not layers.is_dense(lanes, gates, H, 63)
    assert found
