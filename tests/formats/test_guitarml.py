"""GuitarML's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import SETTINGS, amplifier, direction, linear, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats import Content
from l0gate.formats._guitarml import GuitarML
from l0gate.formats.layers import Activation, Embedding, Layer, Recurrent
from l0gate.formats.proof import prove

GUITARML = GuitarML()
RNG = np.random.default_rng(0)


def file(data: dict[str, Any] | None = None, **arrays: Any) -> bytes:
    found = json.loads(GUITARML.write(Content(amplifier(3))))
    found["model_data"] |= data or {}
    found["state_dict"] |= arrays
    return json.dumps(found).encode()


@given(nets(equal=True, mixed=False, functions=(), linear_bias=False))
@settings(**SETTINGS)
def test_round_trip(layers: list[Layer]) -> None:
    written = GUITARML.write(Content(layers))
    assert prove(saved(layers), layers, GUITARML.runner(written), "guitarml", 0).stepwise
    assert GUITARML.write(GUITARML.read(written)) == written


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([*amplifier(3), Activation("tanh")], "an LSTM or GRU and then a linear layer"),
        ([amplifier(3)[0], Activation("relu"), amplifier(3)[1]], "no place for it"),
        ([Embedding("e", np.ones((3, 1), np.float32)), *amplifier(3)], "no place for it"),
        (
            [Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),), False), linear(RNG, 3, 1)],
            "reset",
        ),
        ([Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),) * 2), linear(RNG, 6, 1)], "one dir"),
        (
            [
                Recurrent("a", "gru", (direction(RNG, "gru", 1, 3),)),
                Recurrent("b", "gru", (direction(RNG, "gru", 3, 2),)),
                linear(RNG, 2, 1),
            ],
            r"'b'.*one hidden size.*pad_to",
        ),
    ],
)
def test_what_it_cannot_hold_is_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        GUITARML.write(Content(layers))


def test_a_stack_of_which_some_layers_have_biases() -> None:
    layers: list[Layer] = [
        Recurrent("a", "gru", (direction(RNG, "gru", 1, 3, bias=False),)),
        Recurrent("b", "gru", (direction(RNG, "gru", 3, 3),)),
        linear(RNG, 3, 1),
    ]
    written = GUITARML.write(Content(layers))
    assert prove(saved(layers), layers, GUITARML.runner(written), "guitarml", 0).stepwise


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (file({"unit_type": "QRNN"}), "unit_type 'QRNN'; allowed: LSTM, GRU"),
        (file({"hidden_size": 2**40}), "hidden_size"),
        (file({"hidden_size": 4}), r"weight_ih_l0` has shape \(12, 1\); expected \(16, 1\)"),
        (file({"num_layers": 5000}), "1,000"),
        (file({"num_layers": 2}), "lacks the array `rec.weight_ih_l1`"),
        (file({"skip": 3}), "skip 3"),
        (file(**{"lin.weight": [["x"]]}), "not numbers"),
        (b'{"model_data": {}, "state_dict": 3}', "`state_dict`"),
    ],
)
def test_damaged_files(content: bytes, message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        GUITARML.read(content)


def test_metadata_stays(tmp_path: Path) -> None:
    written = GUITARML.write(Content(amplifier(3), {"name": "clean"}))
    assert GUITARML.read(written).metadata == {"name": "clean"}
