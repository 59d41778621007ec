"""Chains: every key filled in, every parameter with its pattern, and clear refusals."""

from __future__ import annotations

from typing import Any

import pytest

from l0gate import L0GateError
from l0gate._chain import Chain
from l0gate._vocabulary import complete


def test_defaults_are_written_out() -> None:
    recurrent = {"num_layers": 1, "bidirectional": False, "bias": True}
    recurrent |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
    assert complete(
        [
            {"type": "embedding", "name": "e"},
            {"type": "lstm", "name": "a"},
            {"type": "gru", "name": "b"},
            {"type": "activation", "function": "relu"},
            {"type": "linear", "name": "c"},
        ]
    ) == [
        {"type": "embedding", "name": "e"},
        {"type": "lstm", "name": "a", **recurrent},
        {"type": "gru", "name": "b", **recurrent, "reset_after": True},
        {"type": "activation", "function": "relu"},
        {"type": "linear", "name": "c", "bias": True},
    ]


def test_the_layout_of_a_long_chain() -> None:
    chain = Chain(
        [
            {"type": "embedding", "name": "e"},
            {"type": "lstm", "name": "a", "num_layers": 2, "bidirectional": True},
            {"type": "activation", "function": "tanh"},
            {"type": "linear", "name": "m"},
            {"type": "gru", "name": "b", "bias": False},
            {"type": "linear", "name": "c"},
            {"type": "linear", "name": "d", "bias": False},
        ],
        batch_first=True,
    )
    lstm = {}
    for i, reads in ((0, "x"), (1, "(f0 + b0)")):
        for letter, end in (("f", ""), ("b", "_reverse")):
            axis = f"{letter}{i}"
            lstm |= {
                f"a.weight_ih_l{i}{end}": f"(4 {axis}) <- {reads}",
                f"a.weight_hh_l{i}{end}": f"(4 {axis}) <- {axis}",
                f"a.bias_ih_l{i}{end}": f"(4 {axis})",
                f"a.bias_hh_l{i}{end}": f"(4 {axis})",
            }
    assert chain.layout.to_dict() == {
        "e.weight": "_ -> x",
        **lstm,
        "m.weight": "x2 <- (f1 + b1)",
        "m.bias": "x2",
        "b.weight_ih_l0": "(3 h2) <- x2",
        "b.weight_hh_l0": "(3 h2) <- h2",
        "c.weight": "_ <- h2",
        "c.bias": "_",
        "d.weight": "_ <- _",
    }
    assert chain.layout.given_uses == {"e.weight": 0}
    assert chain.groups == (("f0", "b0", "f1", "b1"), ("h2",))
    assert chain.state_axes == ("f0", "b0", "f1", "b1", "h2")
    assert chain.frozen == ()
    assert chain.input_axis is None
    assert chain.batch_first
    assert chain.layers == complete(chain.layers)
    assert len(chain.layers) == 7
    assert chain.layers[4]["reset_after"]


def test_the_caller_sees_the_last_states() -> None:
    chain = Chain([{"type": "gru", "name": "", "bidirectional": True}])
    assert chain.frozen == ("f0", "b0")
    assert chain.input_axis == "x"
    assert next(iter(chain.layout.patterns)) == "weight_ih_l0"
    assert not chain.batch_first
    two = Chain([{"type": "lstm", "name": "a"}, {"type": "lstm", "name": "b"}])
    assert two.layout.to_dict()["b.weight_ih_l0"] == "(4 h1) <- h0"
    assert two.frozen == ("h1",)
    assert Chain([{"type": "linear", "name": "a"}, {"type": "gru", "name": "b"}]).frozen == ("h0",)
    activated = [{"type": "gru", "name": "b"}, {"type": "activation", "function": "tanh"}]
    assert Chain(activated).frozen == ("h0",)


def lstm(**keys: Any) -> list[dict[str, Any]]:
    return [{"type": "lstm", "name": "a", **keys}]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"^`layers` is \[\]; it must be a list of at least one layer$"),
        ("lstm", r"^`layers` is 'lstm'; it must be a list"),
        (["lstm"], r"^`layers\[0\]` is 'lstm'; it must be a dict with a `type`$"),
        ([{}], r"^`layers\[0\]` has type None; known types are embedding, lstm, gru, rnn, linear"),
        ([{"type": ["lstm"]}], r"^`layers\[0\]` has type \['lstm'\]; known types"),
        ([{"type": "qrnn"}], r"^`layers\[0\]` has type 'qrnn'; known types"),
        ([{"type": "lstm"}], r"^`layers\[0\]` of type 'lstm' lacks the key `name`$"),
        (
            lstm(size=3),
            r"unknown keys \['size'\]; allowed: name, num_layers, bidirectional, bias",
        ),
        (lstm(name=3), r"^`layers\[0\]` has name 3; expected a str$"),
        ([{"type": "activation", "function": "mish"}], r"'mish'; allowed: tanh, sigmoid, relu, "),
        (lstm(num_layers=0), r"num_layers 0; it must be an int from 1 to 1000$"),
        (lstm(num_layers=1001), r"num_layers 1001; it must be an int from 1 to 1000$"),
        (lstm(num_layers=True), r"num_layers True; it must be an int"),
        (lstm(num_layers=2.0), r"num_layers 2.0; it must be an int"),
        (lstm(bias=1), r"^`layers\[0\]` has bias 1; it must be a bool$"),
        (
            [{"type": "linear", "name": "a"}, {"type": "embedding", "name": "b"}],
            r"^`layers\[1\]` is an embedding; only the first layer can be one$",
        ),
        (
            [{"type": "linear", "name": n} for n in "abba"],
            r"^`layers` use the names \['a', 'b'\] more than once; names must differ$",
        ),
    ],
)
def test_bad_chains(layers: Any, message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        Chain(layers)


def test_as_many_layers_as_there_may_be() -> None:
    assert complete([{"type": "lstm", "name": "a", "num_layers": 1000}])[0]["num_layers"] == 1000
