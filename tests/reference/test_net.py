"""Nets: losses, dtypes, chunks, batches, initial parameters."""

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
    cast,
    freeze,
    leaves,
    normal_like,
    problems,
    tree_map,
)

from l0gate import L0GateError
from l0gate.reference import Net


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_of_the_loss_match_differences(engine: str, loss: str, padded: bool) -> None:
    net = Net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": "lstm", "name": "rnn"},
            {"type": "linear", "name": "decoder"},
        ],
        batch_first=True,
    )
    rng = np.random.default_rng(3)
    sizes = {"embedding": 3, "rnn": 4, "decoder": 5}
    parameters = net.init(rng, input_size=7, sizes=sizes, dtype=np.float64)
    tokens = rng.integers(0, 7, (2, 6))
    targets = rng.integers(0, 5, (2, 6)) if loss == "cross_entropy" else rng.normal(size=(2, 6, 5))
    options = {"loss": loss, "lengths": np.array([6, 3]) if padded else None, "engine": engine}
    value, gradients, state = net.loss_and_gradients(parameters, tokens, targets, **options)
    assert isinstance(value, float)
    assert_close(state, net.apply(parameters, tokens, lengths=options["lengths"])[1])

    def loss_at(parameters: dict[str, np.ndarray]) -> float:
        return net.loss(parameters, tokens, targets, **options)[0]

    assert value == pytest.approx(loss_at(parameters), rel=1e-12)
    assert_gradient(loss_at, parameters, gradients, 4)


def test_the_padding_does_not_count_in_the_loss() -> None:
    net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "decoder"}])
    rng = np.random.default_rng(5)
    sizes = {"rnn": 4, "decoder": 3}
    parameters = net.init(rng, input_size=2, sizes=sizes, dtype=np.float64)
    x, targets = rng.standard_normal((5, 3, 2)), rng.integers(0, 3, (5, 3))
    lengths = np.array([5, 0, 2])
    targets[lengths[None] <= np.arange(5)[:, None]] = -1  # no target at all
    loss, _, _ = net.loss_and_gradients(parameters, x, targets, lengths=lengths)
    alone = [
        net.loss(parameters, x[:n, b : b + 1], targets[:n, b : b + 1])[0] * n
        for b, n in enumerate(lengths)
        if n
    ]
    assert loss == pytest.approx(sum(alone) / lengths.sum(), rel=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True))
def test_float32_stays_float32(engine: str, problem: Problem) -> None:
    single = cast(problem, np.float32)
    results = []
    for p in (single, problem):
        y, state, tape = p.net.forward(
            p.parameters, p.x, p.state, lengths=p.lengths, gates=p.gates, engine=engine
        )
        results.append((y, state, p.net.backward(tape, np.ones_like(y))))
    for array in leaves(results[0]):
        assert array.dtype == np.float32
    # The two differ by what float32 rounds off.
    tree_map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), results[0], results[1]
    )


def test_other_floats_are_cast_to_the_dtype_of_the_parameters() -> None:
    net = Net([{"type": "lstm", "name": "rnn"}])
    parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
    x = np.ones((4, 1, 2))
    for given_ in (x, x.astype(np.float16)):
        y, state = net.apply(parameters, given_)
        assert all(array.dtype == np.float32 for array in (y, *leaves(state)))


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True))
def test_no_input_is_modified(engine: str, problem: Problem) -> None:
    arrays = freeze((problem.parameters, problem.x, problem.state, problem.gates))
    parameters, x, state, gates = arrays
    lengths = freeze(problem.lengths)
    y, last, tape = problem.net.forward(
        parameters, x, state, lengths=lengths, gates=gates, engine=engine
    )
    dy, dstate = freeze(normal_like(np.random.default_rng(0), (y, last)))
    first = problem.net.backward(tape, dy, dstate)
    assert_close(problem.net.backward(tape, dy, dstate), first)  # a tape can be used twice
    problem.net.apply(parameters, x, state, lengths=lengths, engine=engine)
    for ours in leaves((y, last, first[0])):
        for theirs in leaves(arrays):
            assert not np.shares_memory(ours, theirs)
    if y.size:
        problem.net.loss_and_gradients(parameters, x, freeze(y), state, loss="mse", engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(bidirectional=False), cut=st.integers(0, 6))
def test_chunks_equal_the_whole(engine: str, problem: Problem, cut: int) -> None:
    time = 1 if problem.net.batch_first else 0
    head, tail = np.split(problem.x, [min(cut, problem.x.shape[time])], axis=time)
    y, last = problem.net.apply(problem.parameters, problem.x, problem.state, engine=engine)
    y_head, middle = problem.net.apply(problem.parameters, head, problem.state, engine=engine)
    y_tail, end = problem.net.apply(problem.parameters, tail, middle, engine=engine)
    assert_close((np.concatenate((y_head, y_tail), axis=time), end), (y, last))


@pytest.mark.parametrize("engine", ENGINES)
@given(problem=problems(empty=True, ragged=True))
def test_sequences_of_a_batch_are_independent(engine: str, problem: Problem) -> None:
    """Each sequence alone, cut to its length, gives what it gives in the batch."""
    net = Net(problem.net.layers)
    x = problem.x.swapaxes(0, 1) if problem.net.batch_first else problem.x
    y, last = net.apply(
        problem.parameters, x, problem.state, lengths=problem.lengths, engine=engine
    )
    for b in range(x.shape[1]):
        length = len(x) if problem.lengths is None else problem.lengths[b]
        one = tree_map(lambda array, b=b: array[b : b + 1], (problem.state, last))
        alone = net.apply(problem.parameters, x[:length, b : b + 1], one[0], engine=engine)
        assert_close(alone, (y[:length, b : b + 1], one[1]))
        assert not y[length:, b].any()


def test_initial_parameters_have_torch_shapes_and_bounds() -> None:
    net = Net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": "lstm", "name": "rnn", "num_layers": 2, "bidirectional": True},
            {"type": "linear", "name": "decoder"},
        ]
    )
    sizes = {"embedding": 40, "rnn": (30, 20, 10, 25), "decoder": 50}
    parameters = net.init(np.random.default_rng(0), input_size=60, sizes=sizes)
    again = net.init(np.random.default_rng(0), input_size=60, sizes=sizes)
    assert tuple(parameters) == net.parameter_names
    assert parameters["rnn.weight_ih_l1_reverse"].shape == (100, 50)
    assert parameters["decoder.weight"].shape == (50, 35)
    assert abs(parameters["embedding.weight"].std() - 1) < 0.05
    for name, size in (("rnn.weight_hh_l0", 30), ("rnn.bias_ih_l1", 10), ("decoder.bias", 35)):
        bound = 1 / np.sqrt(size)
        assert 0.8 * bound < abs(parameters[name]).max() <= bound
    for name, array in parameters.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again[name])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_net_learns(engine: str) -> None:
    """Plain gradient descent on a sequence that repeats itself."""
    net = Net(
        [
            {"type": "embedding", "name": "embedding"},
            {"type": "gru", "name": "rnn"},
            {"type": "linear", "name": "decoder"},
        ]
    )
    sizes = {"embedding": 8, "rnn": 16, "decoder": 4}
    parameters = net.init(np.random.default_rng(0), input_size=4, sizes=sizes)
    text = np.array([0, 1, 2, 0, 1, 3] * 5)
    tokens, targets = text[:-1, None], text[1:, None]
    before, _ = net.loss(parameters, tokens, targets, engine=engine)
    for _ in range(100):
        _, gradients, _ = net.loss_and_gradients(parameters, tokens, targets, engine=engine)
        parameters = {name: p - 0.5 * gradients[name] for name, p in parameters.items()}
    after, _ = net.loss(parameters, tokens, targets, engine=engine)
    assert before > 1
    assert after < 0.1


NET = Net(
    [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn"},
        {"type": "linear", "name": "decoder"},
    ]
)
PARAMETERS = NET.init(
    np.random.default_rng(0), input_size=5, sizes={"embedding": 2, "rnn": 3, "decoder": 4}
)
TOKENS = np.array([[1, 2], [0, 4], [3, 3]])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "`layers` is []; it must be a list of at least one layer"),
        ([{"type": "qrnn", "name": "a"}], "type 'qrnn'; known types are embedding, lstm, gru"),
        (["lstm"], "is 'lstm'; it must be a dict"),
        ([{"type": "lstm"}], "lacks the key `name`"),
        ([{"type": "lstm", "name": 3}], "name 3; expected a str"),
        ([{"type": "lstm", "name": "a", "size": 3}], "unknown keys ['size']; allowed: name, num"),
        ([{"type": "lstm", "name": "a", "reset_after": True}], "unknown keys ['reset_after']"),
        ([{"type": "gru", "name": "a", "num_layers": 0}], "num_layers 0; it must be an int from 1"),
        ([{"type": "gru", "name": "a", "num_layers": True}], "num_layers True; it must be"),
        ([{"type": "gru", "name": "a", "bias": 1}], "bias 1; it must be a bool"),
        ([{"type": "activation", "function": "mish"}], "'mish'; allowed: tanh, sigmoid, relu"),
        ([{"type": "linear", "name": "a"}] * 2, "names ['a'] more than once"),
        (
            [{"type": "linear", "name": "a"}, {"type": "embedding", "name": "b"}],
            "`layers[1]` is an embedding; only the first",
        ),
    ],
)
def test_wrong_descriptions_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        Net(layers)
    assert message in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0)])
def test_empty_sequences_and_batches(engine: str, shape: tuple[int, int]) -> None:
    """No steps leave the state as it was; no sequences are no sequences."""
    x, state = np.zeros(shape, int), ((np.ones((shape[1], 3), np.float32),) * 2,)
    y, last, tape = NET.forward(PARAMETERS, x, state, engine=engine)
    assert y.shape == (*shape, 4)
    assert_close(last, state, np.float32)
    gradients, dx, dstate, _ = NET.backward(tape, y, state)
    assert dx is None
    assert_close(dstate, state, np.float32)
    assert_close(gradients, tree_map(np.zeros_like, PARAMETERS), np.float32)
    assert_close(NET.apply(PARAMETERS, x, state, engine=engine), (y, last), np.float32)
