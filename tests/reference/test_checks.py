"""What a net refuses: wrong parameters, inputs, states, lengths, gates and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.reference import Net

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


def test_one_size_for_a_layer_that_is_not_recurrent() -> None:
    with pytest.raises(L0GateError, match=r"`sizes\['decoder'\]` is \(4, 4\); expected a positive"):
        NET.init(
            np.random.default_rng(0),
            input_size=5,
            sizes={"embedding": 2, "rnn": 3, "decoder": (4, 4)},
        )
