"""Streams: a net that keeps its state computes what steps with the state handed on do."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import ENGINES, Problem, assert_close, cast, freeze, leaves, problems, tree_map

from l0gate import L0GateError
from l0gate.reference import Net, StreamingNet


def _time_first(problem: Problem, array: np.ndarray) -> np.ndarray:
    return array.swapaxes(0, 1) if problem.net.batch_first else array


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_a_stream_equals_steps(engine: str, dtype: type, data: st.DataObject) -> None:
    """To the last bit, with a batch or without, from zeros or from a state, in several at once."""
    problem = cast(data.draw(problems(ragged=True, bidirectional=False)), dtype)
    bound = problem.net.bind(problem.parameters, engine=engine)
    x = _time_first(problem, problem.x)
    single = data.draw(st.booleans())
    x, state = (tree_map(lambda a: a[:, 0], x), None) if single else (x, problem.state)
    if single and data.draw(st.booleans()):
        state = tree_map(lambda a: a[0], problem.state)
    first, second = bound.stream(freeze(state)), bound.stream()
    zeros = None
    for x_t in x:
        y_t, state = bound.step(x_t, state)
        assert_equal(first.step(x_t), y_t)
        assert_equal(first.state, state)
        y_t, zeros = bound.step(x_t, zeros)
        assert_equal(second.step(x_t), y_t)
    if zeros is not None:
        assert_equal(second.state, zeros)


def net(kind: str, engine: str, **options: Any) -> StreamingNet:
    layers = [{"type": kind, "name": "rnn", "num_layers": 2}, {"type": "linear", "name": "out"}]
    made = Net(layers)
    sizes = {"rnn": (5, 4), "out": 2}
    parameters = made.init(np.random.default_rng(0), input_size=3, sizes=sizes)
    return made.bind(parameters, engine=engine, **options)


X = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)


def outputs(bound: StreamingNet, x: Any = X, state: Any = None) -> list[Any]:
    found = []
    for x_t in x:
        y_t, state = bound.step(x_t, state)
        found.append(y_t)
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_whatever_can_be_a_step_goes_on(engine: str, kind: str) -> None:
    """Steps that are not as usual go the long way, with the state of the others."""
    bound = net(kind, engine)
    forms = [
        lambda x: x,
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: np.stack([x, x], axis=1)[:, 0],  # every other number
        lambda x: np.frombuffer(b"?" + x.tobytes(), np.float32, offset=1),  # not aligned
        lambda x: x,
    ]
    stream = bound.stream()
    for form, x_t, y_t in zip(forms, X, outputs(bound), strict=True):
        assert_close(stream.step(form(x_t)), y_t, np.float32)


@pytest.mark.parametrize("engine", ENGINES)
def test_states_are_taken_given_and_forgotten(engine: str) -> None:
    bound = net("lstm", engine)
    expected = outputs(bound)
    stream = bound.stream()
    assert stream.state is None
    states = [stream.state]
    for x_t in X:
        stream.step(x_t)
        states.append(stream.state)
    kept = freeze(states[3])
    for way in (
        lambda state: bound.stream(state),
        lambda state: copy.copy(bound.stream(state)),
        lambda state: pickle.loads(pickle.dumps(bound.stream(state))),
    ):
        assert_close(way(states[3]).step(X[3]), expected[3], np.float32)
    stream.state = states[3]
    other = copy.deepcopy(stream)
    assert_equal(stream.step(X[3]), expected[3])
    assert_equal(stream.step(X[4]), expected[4])
    assert_equal(other.step(X[3]), expected[3])  # a copy goes on by itself
    assert_equal(states[3], kept)
    for array in leaves(stream.state):
        array[...] = np.nan  # of the caller
    assert_equal(stream.step(X[5]), expected[5])
    stream.state = None
    assert_equal(stream.step(X[0]), expected[0])
    y_t = stream.step(X[1])
    y_t[...] = np.nan
    assert_equal(stream.step(X[2]), expected[2])
    assert repr(stream) == f"Stream({bound!r})"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_in_the_middle_has_a_state_of_its_own(engine: str) -> None:
    bound = net("gru", engine)
    expected = outputs(bound)
    stream = bound.stream()
    stream.step(X[0])
    stream.step(X[1])
    for twin in (copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))):
        assert_close([twin.step(x_t) for x_t in X[2:]], expected[2:], np.float32)
    assert_equal([stream.step(x_t) for x_t in X[2:]], expected[2:])


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_refused_leaves_the_state(engine: str) -> None:
    bound = net("gru", engine)
    expected = outputs(bound)
    stream = bound.stream()
    for wrong, message in (
        (np.ones(4, np.float32), r"`x` has shape \(4,\); its last dimension must be the 3"),
        (np.ones((1, 1, 3)), r"`x_t` has shape \(1, 1, 3\); expected \(features,\)"),
        ([1, 2, 3], "`x` has dtype int64"),
    ):
        with pytest.raises(L0GateError, match=message):
            stream.step(wrong)
    for t, x_t in enumerate(X):
        with pytest.raises(L0GateError, match=r"`x` has shape \(4,\)"):
            stream.step(np.ones(4, np.float32))
        if t:  # it has begun without a batch
            with pytest.raises(L0GateError, match=r"`state\[0\]` has an array of shape \(5,\)"):
                stream.step(X[:2])
        assert_equal(stream.step(x_t), expected[t])
    for wrong, message in (
        ((np.zeros(5),), "`state` is a tuple of 1; expected a tuple of 2"),
        ("none", "`state` is of type str; expected a tuple of 2"),
        ((np.zeros(5), np.zeros(3)), r"`state\[1\]` has an array of shape \(3,\); expected \(4,\)"),
        ((np.zeros((1, 1, 5)), np.zeros(4)), r"`state\[0\]` has an array of shape \(1, 1, 5\)"),
    ):
        with pytest.raises(L0GateError, match=message):
            bound.stream(wrong)
        last = stream.state
        with pytest.raises(L0GateError, match=message):
            stream.state = wrong
        assert_equal(stream.state, last)
    two = net("gru", engine).stream()
    two.step(X[:2])
    with pytest.raises(L0GateError, match=r"`state\[0\]` has an array of shape \(2, 5\)"):
        two.step(X[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_dense_inputs_and_states(engine: str) -> None:
    plain = net("lstm", engine)
    kept = [(np.arange(5), 9), (np.arange(4), 7)]
    bound = net("lstm", engine, input_kept=([0, 2, 5], 6), kept=kept)
    x = np.zeros((6, 6), np.float32)
    x[:, [0, 2, 5]] = X
    stream = bound.stream(tuple((np.zeros(size), np.zeros(size)) for _, size in kept))
    assert_equal([stream.step(x_t) for x_t in x], outputs(plain))
    with pytest.raises(L0GateError, match="must be the dense model's 6 features"):
        stream.step(X[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_tokens(engine: str) -> None:
    made = Net([{"type": "embedding", "name": "a"}, {"type": "gru", "name": "b"}])
    parameters = made.init(np.random.default_rng(0), input_size=5, sizes={"a": 2, "b": 3})
    bound = made.bind(parameters, engine=engine)
    tokens = [1, 4, np.int64(0), np.int32(2), np.array(3), 1]
    stream = bound.stream()
    assert_equal([stream.step(token) for token in tokens], outputs(bound, tokens))
    for wrong in (5, -1):
        with pytest.raises(L0GateError, match=rf"`x` contains the token {wrong}; allowed: 0..4"):
            stream.step(wrong)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_net_without_states(engine: str) -> None:
    made = Net([{"type": "linear", "name": "a"}, {"type": "activation", "function": "tanh"}])
    bound = made.bind(
        made.init(np.random.default_rng(0), input_size=3, sizes={"a": 2}), engine=engine
    )
    stream = bound.stream()
    assert_equal([stream.step(x_t) for x_t in X], outputs(bound))
    assert stream.state == ()


def test_a_reverse_layer_cannot_stream() -> None:
    made = Net([{"type": "gru", "name": "rnn", "bidirectional": True}])
    bound = made.bind(made.init(np.random.default_rng(0), input_size=3, sizes={"rnn": 3}))
    with pytest.raises(L0GateError, match="a reverse layer reads the future"):
        bound.stream()


def test_a_stream_keeps_what_it_runs() -> None:
    """Compiled code sees addresses: net, program and state must live for as long as they do."""
    expected = outputs(net("gru", "numba"))
    stream = net("gru", "numba").stream()
    for x_t, y_t in zip(X, expected, strict=True):
        gc.collect()
        junk = [np.full(n, 7.0, np.float32) for n in range(4, 600)]
        assert_equal(stream.step(x_t), y_t)
        del junk


LATER = """
import sys
import numpy as np
from l0gate.reference import Net

for kind, engine in (("lstm", "numba"), ("gru", "numba"), ("lstm", "numpy"), ("gru", "numpy")):
    made = Net([{"type": kind, "name": "rnn"}, {"type": "linear", "name": "out"}])
    sizes = {"rnn": int(sys.argv[2]), "out": 2}
    bound = made.bind(made.init(np.random.default_rng(0), input_size=3, sizes=sizes), engine=engine)
    x = np.linspace(-1, 1, 3, dtype=np.float32)
    if sys.argv[1] == "step":
        y = bound.step(x)[0]
    else:
        stream = bound.stream()
        y = [stream.step(x), stream.step(x)]
    print(np.array(y, float).ravel().round(5).tolist())
"""


def test_kernels_that_were_compiled_in_different_processes(tmp_path: Path) -> None:
    """A step in one process, a stream in the next, and both from the disk: no symbol is shared."""
    pytest.importorskip("numba")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    # Large nets have kernels of their own, which give back the interpreter's lock.
    for what, size in (("step", "5"), ("stream", "5"), ("stream", "200"), ("stream", "5")):
        run = [sys.executable, "-c", LATER, what, size]
        done = subprocess.run(run, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:2] == lines[2:], what


@pytest.mark.parametrize("engine", ENGINES)
def test_input_that_runs_code_of_the_callers(engine: str) -> None:
    bound = net("gru", engine)
    stream = bound.stream()
    stream.step(X[0])

    class Resets:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            stream.state = None
            return X[0]

    assert_equal(stream.step(Resets()), outputs(bound)[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_indices_are_the_nets_own(engine: str) -> None:
    index = np.array([0, 2, 5])
    bound = net("gru", engine, input_kept=(index, 6))
    x = np.arange(6, dtype=np.float32)
    expected = bound.stream().step(x)
    index[:] = 10**6
    assert_equal(bound.stream().step(x), expected)
