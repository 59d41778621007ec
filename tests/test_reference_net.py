"""Nets: gates, gradients, dtypes, chunks, initial parameters, losses."""

from __future__ import annotations

import json
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
    dot,
    freeze,
    leaves,
    normal_like,
    problems,
    tree_map,
)

from l0gate import L0GateError
from l0gate.reference import Net


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


MIXED = [
    {"type": "linear", "name": "encoder", "bias": False},
    {"type": "activation", "function": "tanh"},
    {"type": "gru", "name": "a", "reset_after": False, "bidirectional": True},
    {"type": "activation", "function": "relu"},
    {"type": "linear", "name": "between"},
    {"type": "activation", "function": "sigmoid"},
    {"type": "lstm", "name": "b", "num_layers": 2},
    {"type": "linear", "name": "decoder"},
]
MIXED_SIZES = {"encoder": 5, "a": (3, 4), "between": 6, "b": (4, 3), "decoder": 2}
MIXED_GATES = {"x": 5, "f0": 3, "b0": 4, "x1": 6, "h1": 4, "h2": 3}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mixed_chain_matches_differences(engine: str, batch_first: bool) -> None:
    net = Net(MIXED, batch_first=batch_first)
    rng = np.random.default_rng(1)
    parameters = net.init(rng, input_size=4, sizes=MIXED_SIZES, dtype=np.float64)
    gates = {axis: rng.uniform(size=size) for axis, size in MIXED_GATES.items()}
    at = {"parameters": parameters, "x": rng.standard_normal((3, 4, 4)), "gates": gates}
    y, state, tape = net.forward(**at, engine=engine)
    dy, dstate = normal_like(rng, (y, state))
    gradients, dx, _, gate_gradients = net.backward(tape, dy, dstate)
    assert set(gate_gradients) == set(gates)
    assert set(gradients) == set(net.parameter_names)

    def value(at: dict[str, Any]) -> float:
        return dot(net.forward(**at, engine=engine)[:2], (dy, dstate))

    assert_gradient(value, at, {"parameters": gradients, "x": dx, "gates": gate_gradients}, 2)


def test_gates_that_are_not_given_are_open() -> None:
    net = Net(MIXED)
    rng = np.random.default_rng(1)
    parameters = net.init(rng, input_size=4, sizes=MIXED_SIZES, dtype=np.float64)
    x = rng.standard_normal((3, 2, 4))
    some = {"b0": rng.uniform(size=4)}
    every = {axis: np.ones(size) for axis, size in MIXED_GATES.items()} | some
    y, _, tape = net.forward(parameters, x, gates=some)
    y_every, _, tape_every = net.forward(parameters, x, gates=every)
    assert_close(y, y_every)
    gate_gradients = net.backward(tape, np.ones_like(y))[3]
    assert list(gate_gradients) == ["b0"]
    assert_close(gate_gradients["b0"], net.backward(tape_every, np.ones_like(y))[3]["b0"])


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


def test_a_description_survives_json() -> None:
    net = Net(json.loads(json.dumps(Net(MIXED, batch_first=True).layers)))
    assert net.layers == Net(MIXED).layers
    assert net.parameter_names == Net(MIXED).parameter_names


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
FLOAT_NET = Net([{"type": "gru", "name": "rnn", "num_layers": 2}])
FLOAT_PARAMETERS = FLOAT_NET.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
FLOATS = np.ones((4, 2, 2))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "`layers` is []; it must be a list of at least one layer"),
        ([{"type": "rnn", "name": "a"}], "type 'rnn'; known types are embedding, lstm, gru"),
        (["lstm"], "is 'lstm'; it must be a dict"),
        ([{"type": "lstm"}], "lacks the key `name`"),
        ([{"type": "lstm", "name": 3}], "name 3; expected a str"),
        ([{"type": "lstm", "name": "a", "size": 3}], "unknown keys ['size']; allowed: name, num"),
        ([{"type": "lstm", "name": "a", "reset_after": True}], "unknown keys ['reset_after']"),
        ([{"type": "gru", "name": "a", "num_layers": 0}], "num_layers 0; it must be an int from 1"),
        ([{"type": "gru", "name": "a", "num_layers": True}], "num_layers True; it must be"),
        ([{"type": "gru", "name": "a", "bias": 1}], "bias 1; it must be a bool"),
        ([{"type": "activation", "function": "gelu"}], "'gelu'; allowed: tanh, sigmoid, relu"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.bias": None}, "parameter `decoder.bias` is missing"),
        ({"decoder.bias": [0, 0, 0, 0]}, "`decoder.bias` is a list; expected a NumPy array"),
        ({"decoder.bias": np.zeros(4)}, "`decoder.bias` is float64 and `embedding.weight` float32"),
        ({"decoder.bias": np.zeros(4, int)}, "dtype int64; expected float32 or float64"),
        ({"decoder.bias": np.zeros(5, np.float32)}, "shape (5,); expected (4,)"),
        ({"decoder.weight": np.zeros((4, 2), np.float32)}, "shape (4, 2); expected (4, 3)"),
        ({"rnn.weight_hh_l0": np.zeros((9, 3), np.float32)}, "shape (9, 3); expected (12, 3)"),
        ({"rnn.weight_ih_l0": np.zeros((12, 5), np.float32)}, "shape (12, 5); expected (12, 2)"),
        ({"rnn.bias_hh_l0": np.zeros((12, 1), np.float32)}, "shape (12, 1); expected (12,)"),
        ({"embedding.weight": np.zeros(5, np.float32)}, "shape (5,); it must be a matrix"),
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, Any], message: str) -> None:
    changed = {name: array for name, array in (PARAMETERS | change).items() if array is not None}
    for call in (lambda: NET.apply(changed, TOKENS), lambda: NET.bind(changed)):
        with pytest.raises(L0GateError) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (TOKENS + 1, {}, "`x` contains the token 5; allowed: 0..4"),
        (TOKENS - 1, {}, "`x` contains the token -1; allowed: 0..4"),
        (TOKENS * 1.0, {}, "`x` has dtype float64; an embedding reads integer tokens"),
        (TOKENS[0], {}, "`x` has shape (2,); expected (T, B)"),
        (TOKENS, {"engine": "cuda"}, "`engine` is 'cuda'; allowed: auto, numpy, numba"),
        (TOKENS, {"lengths": [3, 4]}, "`lengths` contains 4; allowed: 0..3"),
        (TOKENS, {"lengths": [3, -1]}, "`lengths` contains -1; allowed: 0..3"),
        (TOKENS, {"lengths": [3]}, "expected integers of shape (2,)"),
        (TOKENS, {"lengths": [3.0, 1.0]}, "`lengths` has dtype float64"),
        (TOKENS, {"state": ()}, "`state` is a tuple of 0; expected a tuple of 1 entries"),
        (TOKENS, {"state": np.zeros(3)}, "`state` is of type ndarray; expected a tuple"),
        (TOKENS, {"state": (np.zeros((2, 3)),)}, "`state[0]` is of type ndarray; expected a pair"),
        (TOKENS, {"state": ((np.zeros((2, 3)),) * 3,)}, "`state[0]` is a tuple of 3; expected a"),
        (TOKENS, {"state": ((np.zeros((2, 4)),) * 2,)}, "shape (2, 4); expected (2, 3)"),
        (TOKENS, {"gates": {"h1": np.ones(3)}}, "names the axis 'h1'; this net has x, h0"),
        (TOKENS, {"gates": {"h0": np.ones(4)}}, "`gates['h0']` has shape (4,); expected (3,)"),
    ],
)
def test_wrong_arguments_are_refused(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        NET.forward(PARAMETERS, x, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (TOKENS, {}, "`x` has shape (3, 2); expected (T, B, features)"),
        (np.ones((4, 2, 2), int), {}, "`x` has dtype int64; a net without an embedding reads"),
        (np.ones((4, 2, 3)), {}, "`x` has shape (4, 2, 3); its last dimension must be the 2"),
        (FLOATS, {"state": (np.zeros((2, 3)),)}, "expected a tuple of 2 entries"),
        (FLOATS, {"state": (np.zeros((2, 3)), np.zeros((1, 3)))}, "`state[1]` has an array of sha"),
    ],
)
def test_wrong_floats_are_refused(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        FLOAT_NET.forward(FLOAT_PARAMETERS, x, **options)
    assert message in str(caught.value)


def test_wrong_gradients_are_refused() -> None:
    y, _, tape = NET.forward(PARAMETERS, TOKENS)
    with pytest.raises(L0GateError, match=r"`dy` has shape \(3, 2\); expected \(3, 2, 4\)"):
        NET.backward(tape, y[..., 0])
    with pytest.raises(L0GateError, match=r"`dstate` is a tuple of 0"):
        NET.backward(tape, y, ())


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (TOKENS, {"loss": "hinge"}, "`loss` is 'hinge'; allowed: cross_entropy, mse"),
        (TOKENS, {}, "`targets` contain 4; they must lie in 0..3"),
        (TOKENS - 1.0, {}, "`targets` have dtype float64; expected integers"),
        (TOKENS[:2], {}, "`targets` have shape (2, 2); the output asks for (3, 2)"),
        (TOKENS[:2], {"lengths": [3, 3]}, "`targets` have shape (2, 2); expected (3, 2)"),
        (TOKENS.repeat(2, 0), {"lengths": [3, 3]}, "`targets` have shape (6, 2); expected (3, 2)"),
        (TOKENS, {"loss": "mse"}, "`targets` have shape (3, 2); the output asks for (3, 2, 4)"),
        (TOKENS, {"lengths": [0, 0]}, "a mean needs at least one position"),
    ],
)
def test_wrong_targets_are_refused(targets: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        NET.loss_and_gradients(PARAMETERS, TOKENS, targets, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": {}}, "`sizes` lacks the layer 'rnn'"),
        ({"sizes": {"rnn": 3, "x": 2}}, "`sizes` names ['x']; this net has the layers rnn"),
        ({"sizes": {"rnn": 0}}, "`sizes['rnn']` is 0; expected a positive integer or 2 of them"),
        ({"sizes": {"rnn": (1, 2, 3)}}, "expected a positive integer or 2 of them"),
        ({"sizes": {"rnn": 2.0}}, "expected a positive integer"),
        ({"sizes": {"rnn": 2}, "dtype": int}, "`dtype` has dtype int64; expected float32 or"),
        ({"sizes": {"rnn": 2}, "input_size": 0}, "`input_size` is 0; it must be a positive"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        FLOAT_NET.init(np.random.default_rng(0), **{"input_size": 2, **options})
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("steps", [1, 4])  # fewer and more positions than words
@pytest.mark.parametrize("following", [["tanh", "lstm"], ["lstm"], ["linear"], ["tanh"], []])
def test_whatever_follows_an_embedding(engine: str, steps: int, following: list[str]) -> None:
    """Its rows may be multiplied before they are gathered, but not run through a function."""
    layers: list[dict[str, Any]] = [{"type": "embedding", "name": "embedding"}]
    for kind in following:
        layers.append(
            {"type": "activation", "function": kind}
            if kind == "tanh"
            else {"type": kind, "name": kind}
        )
    net, rng = Net(layers), np.random.default_rng(0)
    sizes = {layer["name"]: 3 for layer in layers if "name" in layer}
    parameters = net.init(rng, input_size=5, sizes=sizes, dtype=np.float64)
    tokens = rng.integers(0, 5, (steps, 2))
    y, _, tape = net.forward(parameters, tokens, engine=engine)
    dy = rng.standard_normal(y.shape)
    gradients, dx, _, _ = net.backward(tape, dy)
    assert dx is None
    rest = Net(layers[1:] or [{"type": "linear", "name": "same", "bias": False}])
    read = parameters["embedding.weight"][tokens]
    assert_close(y, rest.apply({**parameters, "same.weight": np.eye(3)}, read)[0])
    assert_gradient(
        lambda p: dot(net.forward(p, tokens, engine=engine)[0], dy), parameters, gradients, 1
    )


def test_one_size_for_a_layer_that_is_not_recurrent() -> None:
    with pytest.raises(L0GateError, match=r"`sizes\['decoder'\]` is \(4, 4\); expected a positive"):
        NET.init(
            np.random.default_rng(0),
            input_size=5,
            sizes={"embedding": 2, "rnn": 3, "decoder": (4, 4)},
        )
