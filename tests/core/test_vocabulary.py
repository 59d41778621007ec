"""Kinds of layers: what they read, and clear refusals of what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from l0gate import L0GateError
from l0gate._vocabulary import complete, describe, sources

LINEAR = {"type": "linear", "name": "a", "label": "y"}


def test_every_key_has_a_value() -> None:
    conv, norm, cell, slope = complete(
        [
            {"type": "conv1d", "name": "c"},
            {"type": "batch_norm", "name": "n"},
            {"type": "rnn", "name": "r"},
            {"type": "activation", "function": "elu"},
        ]
    )
    assert conv["padding"] == "causal"
    assert conv["stride"] == conv["dilation"] == conv["groups"] == 1
    assert norm == {"type": "batch_norm", "name": "n", "epsilon": 1e-5, "affine": True}
    assert cell["activation"] == "tanh"
    assert "recurrent_activation" not in cell
    assert slope["slope"] == 1.0


def test_layers_read_the_one_before_or_a_label() -> None:
    layers = [
        {**LINEAR},
        {"type": "activation", "function": "tanh"},
        {"type": "linear", "name": "b", "reads": "input"},
        {"type": "concat", "inputs": ["y", "input"]},
    ]
    assert sources(complete(layers)) == [(0,), (1,), (0,), (1, 0)]
    assert describe(3, layers[3]) == "`layers[3]` (concat)"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"type": "add", "inputs": ["z"]}, r"reads 'z', which no .*; it can read 'input', 'y'$"),
        ({"type": "add", "inputs": []}, r"has inputs \[\]; it must be a list of at least one"),
        ({"type": "add", "inputs": ["y"], "reads": "y"}, r"unknown keys \['reads'\]"),
        ({"type": "linear", "name": "b", "label": "y"}, r"label 'y', which is taken"),
        ({"type": "linear", "name": "b", "label": "input"}, r"label 'input', which is taken"),
        ({"type": "slice", "start": 2, "stop": 2}, r"has stop 2, not above its start"),
        ({"type": "slice", "start": -1, "stop": 2}, r"has start -1; it must be an int of at le"),
        ({"type": "lstm", "name": "b", "activation": "softmax"}, r"activation 'softmax'; allowed"),
        ({"type": "activation", "function": "tanh", "slope": 1.0}, r"unknown keys \['slope'\]"),
        ({"type": "activation", "function": "mish"}, r"function 'mish'; allowed: tanh, sigmoid"),
        ({"type": "conv1d", "name": "b", "padding": "full"}, r"padding 'full'; allowed: 'causal'"),
        ({"type": "conv1d", "name": "b", "padding": [1, -1]}, r"padding \[1, -1\]; allowed"),
        ({"type": "conv1d", "name": "b", "stride": 0}, r"stride 0; it must be an int of at least"),
        ({"type": "batch_norm", "name": "b", "epsilon": "x"}, r"epsilon 'x'; it must be a number"),
    ],
)
def test_what_does_not_fit_is_refused(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        complete([LINEAR, layer])


def test_tokens_are_not_features() -> None:
    with pytest.raises(L0GateError, match="reads the input, which is tokens"):
        complete(
            [
                {"type": "embedding", "name": "e", "label": "y"},
                {"type": "add", "inputs": ["y", "input"]},
            ]
        )


def test_outputs_come_last() -> None:
    with pytest.raises(L0GateError, match="only the last layer can be one"):
        complete([LINEAR, {"type": "outputs", "inputs": ["y"]}, {"type": "linear", "name": "b"}])
