"""Compiled nets take what is not usual as well: other orders, dtypes, states, batches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from program_cases import arrays_of, close

from l0gate import L0GateError
from l0gate.reference import Net


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
def test_steps_take_whatever_comes_between(layers):
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
            for ours, theirs in zip(arrays_of(new), arrays_of(new_plain), strict=True):
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
            for ours, his in zip(arrays_of(new), arrays_of(new_plain), strict=True):
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
        assert {array.shape for array in arrays_of(state)} == {(0, 4)}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_steps_of_tokens_take_whatever_comes_between(cell):
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
        for ours, theirs in zip(arrays_of(new), arrays_of(new_plain), strict=True):
            close(ours, theirs, np.float32)
    for token, message in ((7, "7"), (-1, "-1"), (np.int64(-1), "-1"), (2.0, "float64")):
        for engine, own in ((bound, state), (plain, expected)):
            with pytest.raises(L0GateError, match=message):
                engine.step(token, own)


def _like(entry, factor):
    """An entry of a state whose arrays lie in the middle of others."""
    if isinstance(entry, tuple):
        return tuple(_like(part, factor) for part in entry)
    return np.stack([entry * 0, entry * factor, entry])[1]
