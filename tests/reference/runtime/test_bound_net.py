"""Bound nets: step by step equals the whole, in every layout of the input, small or dense."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import (
    ENGINES,
    Problem,
    assert_close,
    cast,
    freeze,
    leaves,
    problems,
    tree_map,
)

from l0gate import L0GateError
from l0gate.reference import Net, StreamingNet


def _time_first(problem: Problem, array: np.ndarray) -> np.ndarray:
    return array.swapaxes(0, 1) if problem.net.batch_first else array


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_steps_equal_the_whole(engine: str, dtype: type, data: st.DataObject) -> None:
    problem = cast(data.draw(problems(ragged=True, bidirectional=False)), dtype)
    bound = problem.net.bind(problem.parameters, engine=engine)
    y, last = bound(problem.x, problem.state)
    state, outputs = problem.state, []
    for x_t in _time_first(problem, problem.x):
        y_t, state = bound.step(x_t, state)
        outputs.append(y_t)
    assert_close((np.stack(outputs), state), (_time_first(problem, y), last), dtype)


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(ragged=True, bidirectional=False))
def test_one_unbatched_sequence_equals_a_batch_of_one(engine: str, problem: Problem) -> None:
    bound = problem.net.bind(problem.parameters, engine=engine)
    x_t = _time_first(problem, problem.x)[0]
    batch_y, batch_state = bound.step(x_t, problem.state)
    zero_y, zero_state = bound.step(x_t)
    for b in range(len(x_t)):
        pick = tree_map(lambda array, b=b: array[b], (problem.state, batch_state, zero_state))
        assert_close(bound.step(x_t[b], pick[0]), (batch_y[b], pick[1]))
        assert_close(bound.step(x_t[b]), (zero_y[b], pick[2]))


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True))
def test_a_bound_net_equals_apply(engine: str, problem: Problem) -> None:
    bound = problem.net.bind(problem.parameters, engine=engine)
    expected = problem.net.apply(
        problem.parameters, problem.x, problem.state, lengths=problem.lengths, engine="numpy"
    )
    for _ in range(2):  # the second time with what the first has packed
        assert_close(bound(problem.x, problem.state, problem.lengths), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_language_model_streams(engine: str, kind: str) -> None:
    net = Net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": kind, "name": "rnn", "num_layers": 2},
            {"type": "activation", "function": "relu"},
            {"type": "linear", "name": "between", "bias": False},
            {"type": kind, "name": "rnn2"},
            {"type": "linear", "name": "decoder"},
        ]
    )
    sizes = {"embedding": 3, "rnn": (5, 4), "between": 3, "rnn2": 2, "decoder": 6}
    rng = np.random.default_rng(0)
    parameters = freeze(net.init(rng, input_size=6, sizes=sizes, dtype=np.float64))
    bound = net.bind(parameters, engine=engine)
    tokens = rng.integers(0, 6, (7, 2))
    y, last = bound(tokens)
    states: list[Any] = [None]
    for t, x_t in enumerate(tokens):
        y_t, state = bound.step(x_t, freeze(states[-1]))
        assert_close(y_t, y[t])
        states.append(state)
    assert_close(states[-1], last)

    single = None
    for t, token in enumerate(tokens[:, 0].tolist()):  # Python ints, one sequence
        y_t, single = bound.step(token, single)
        assert_close(y_t, y[t, 0])

    # Old states still are what they were: going on from one gives the same as before.
    y_again, _ = bound.step(tokens[3], states[3])
    assert_close(y_again, y[3])
    assert isinstance(bound, StreamingNet)
    assert bound.layers == net.layers
    assert bound.net is net
    assert tuple(bound.parameters) == net.parameter_names


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_the_callers_own(engine: str) -> None:
    """Writing into a result changes neither the parameters, nor the state, nor later results."""
    for layers in (
        [{"type": "embedding", "name": "a"}],
        [{"type": "embedding", "name": "a"}, {"type": "activation", "function": "tanh"}],
        [{"type": "embedding", "name": "a"}, {"type": "lstm", "name": "b"}],
        [{"type": "embedding", "name": "a"}, {"type": "gru", "name": "b"}],
    ):
        net = Net(layers)
        sizes = {layer["name"]: 3 for layer in layers if "name" in layer}
        parameters = net.init(np.random.default_rng(0), input_size=4, sizes=sizes)
        bound = net.bind(parameters, engine=engine)
        for run in (lambda bound=bound: bound.step(2), lambda bound=bound: bound(np.array([[2]]))):
            first = freeze(run())
            y, state = run()
            y[...] = np.nan
            assert_close(state, first[1], np.float32)
            for array in leaves(state):
                array[...] = np.nan
            assert_close(run(), first, np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(bidirectional=False))
def test_states_pass_between_steps_and_sequences(engine: str, problem: Problem) -> None:
    """A state is a plain value: any way of getting the same one goes on alike."""
    bound = problem.net.bind(problem.parameters, engine=engine)
    other = problem.net.bind({k: -p for k, p in problem.parameters.items()}, engine=engine)
    x_t = _time_first(problem, problem.x)[0]
    _, state = bound.step(x_t, problem.state)
    plain = freeze(state)
    expected = freeze(bound.step(x_t, plain))
    for same in (state, list(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert_close(bound.step(x_t, same), expected)
    assert_close(other.step(x_t, state), other.step(x_t, plain))
    time = 1 if problem.net.batch_first else 0
    y, last = bound(np.expand_dims(x_t, time), state)
    assert_close((y.take(0, axis=time), last), expected)
    assert_close(bound.step(x_t, last), bound.step(x_t, expected[1]))
    assert_close(state, plain)
    with pytest.raises(L0GateError, match=r"`state\[0\]` has an array of shape"):
        bound.step(x_t[0], state)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_net_without_states_streams(engine: str) -> None:
    net = Net(
        [
            {"type": "activation", "function": "relu"},
            {"type": "linear", "name": "a"},
            {"type": "activation", "function": "sigmoid"},
        ]
    )
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=3, sizes={"a": 2}, dtype=np.float64)
    x = rng.standard_normal((2, 3))
    y, state = net.bind(parameters, engine=engine).step(x)
    weighted = np.maximum(x, 0) @ parameters["a.weight"].T + parameters["a.bias"]
    assert_close(y, 1 / (1 + np.exp(-weighted)))
    assert state == ()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_dense_inputs_and_states_are_reduced(engine: str, kind: str) -> None:
    net = Net([{"type": kind, "name": "rnn", "num_layers": 2}])
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=2, sizes={"rnn": (3, 2)}, dtype=np.float64)
    inputs = np.array([1, 4])
    kept = [(np.array([0, 2, 5]), 6), (np.array([1, 3]), 5)]
    bound = net.bind(parameters, input_kept=(inputs, 6), kept=kept, engine=engine)
    plain = net.bind(parameters, engine=engine)

    x = rng.standard_normal((4, 2, 6))
    states = 2 if kind == "lstm" else 1
    dense = tuple(
        parts if states == 2 else parts[0]
        for parts in (tuple(rng.standard_normal((states, 2, size))) for _, size in kept)
    )
    small = tuple(
        tree_map(lambda array, index=index: array[:, index], entry)
        for entry, (index, _) in zip(dense, kept, strict=True)
    )
    expected = plain(x[..., inputs], small)
    assert_close(bound(x, dense), expected)
    assert_close(bound(x, small), expected)
    assert_close(bound(x, (dense[0], small[1])), expected)
    y_t, state = bound.step(x[0], dense)
    assert_close(y_t, expected[0][0])
    assert_close(bound.step(x[1], state)[0], expected[0][1])
    one = tree_map(lambda array: array[1], dense)
    assert_close(bound.step(x[0, 1], one)[0], expected[0][0, 1])


FLOATS = Net([{"type": "lstm", "name": "rnn"}])
FLOAT_PARAMETERS = FLOATS.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
TOKENS = Net([{"type": "embedding", "name": "embedding"}, {"type": "gru", "name": "rnn"}])
TOKEN_PARAMETERS = TOKENS.init(
    np.random.default_rng(0), input_size=5, sizes={"embedding": 2, "rnn": 3}
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "gpu"}, "`engine` is 'gpu'; allowed: auto, numpy, numba"),
        (
            {"input_kept": ([0, 1, 2], 4)},
            "`input_kept` is ([0, 1, 2], 4); expected 2 increasing",
        ),
        (
            {"input_kept": ([0, -1], 4)},
            "`input_kept` is ([0, -1], 4); expected 2 increasing",
        ),
        (
            {"input_kept": ([0.0, 1.0], 4)},
            "`input_kept` is ([0.0, 1.0], 4); expected 2 increasing",
        ),
        ({"input_kept": [0]}, "`input_kept` is [0]; it must be indices and how many there were"),
        ({"kept": []}, "`kept` has 0 entries; expected 1, one per layer and direction"),
        (
            {"kept": [([0, 1], 4)]},
            "`kept[0]` is ([0, 1], 4); expected 3 increasing",
        ),
        ({"kept": [([0, 1, 4], 4)]}, "`kept[0]` is ([0, 1, 4], 4); expected 3 increasing"),
        ({"kept": [([1, 0, 2], 3)]}, "`kept[0]` is ([1, 0, 2], 3); expected 3 increasing"),
    ],
)
def test_wrong_bindings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        FLOATS.bind(FLOAT_PARAMETERS, **options)
    assert message in str(caught.value)


def test_an_input_index_needs_features() -> None:
    with pytest.raises(L0GateError, match="the net reads tokens, not features"):
        TOKENS.bind(TOKEN_PARAMETERS, input_kept=([0, 1], 2))


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        (1.0, None, "`x` has dtype float64; an embedding reads integer tokens"),
        (5, None, "`x` contains the token 5; allowed: 0..4"),
        (-1, None, "`x` contains the token -1; allowed: 0..4"),
        ([[1]], None, "`x_t` has shape (1, 1); expected a token or (B,)"),
        (1, (np.zeros((1, 3)),), "`state[0]` has an array of shape (1, 3); expected (3,)"),
        ([1, 2], (np.zeros((1, 3)),), "`state[0]` has an array of shape (1, 3); expected (2, 3)"),
        (1, np.zeros(3), "`state` is of type ndarray; expected a tuple of 1 entries"),
    ],
)
def test_wrong_steps_are_refused(x: Any, state: Any, message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        TOKENS.bind(TOKEN_PARAMETERS).step(x, state)
    assert message in str(caught.value)


def test_wrong_features_are_refused() -> None:
    bound = FLOATS.bind(FLOAT_PARAMETERS)
    with pytest.raises(
        L0GateError, match=r"`x` has shape \(3,\); its last dimension must be the 2"
    ):
        bound.step(np.ones(3))
    with pytest.raises(L0GateError, match=r"`x_t` has shape \(\); expected \(features,\)"):
        bound.step(1.0)
    with pytest.raises(L0GateError, match="`x` has dtype int64; a net without an embedding"):
        bound.step([1, 2])
    reduced = FLOATS.bind(FLOAT_PARAMETERS, input_kept=([0, 4], 6))
    with pytest.raises(L0GateError, match="must be the dense model's 6 features"):
        reduced(np.ones((3, 1, 4)))


def test_a_reverse_layer_cannot_step() -> None:
    net = Net([{"type": "gru", "name": "rnn", "bidirectional": True}])
    bound = net.bind(net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3}))
    assert bound(np.ones((4, 1, 2)))[0].shape == (4, 1, 6)
    with pytest.raises(L0GateError, match="a reverse layer reads the future"):
        bound.step(np.ones(2))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_bound_net_can_be_copied_after_use(engine: str, copied: Any) -> None:
    net = Net([{"type": "lstm", "name": "rnn"}])
    parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
    bound = net.bind(parameters, input_kept=([0, 2], 4), engine=engine)
    bound.saved = "what it was loaded from"
    x = np.random.default_rng(1).standard_normal((2, 1, 4)).astype(np.float32)
    expected = bound(x)
    _, state = bound.step(x[0, 0])
    other = copied(bound)
    parameters["rnn.weight_hh_l0"][:] = np.nan
    assert_close(other(x), expected, np.float32)
    assert_close(other.step(x[1, 0], state)[0], expected[0][1, 0], np.float32)
    assert (other.engine, other.saved) == (engine, bound.saved)
