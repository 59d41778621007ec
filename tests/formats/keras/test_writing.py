"""What a `.keras` file says."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from format_cases import amplifier, direction, linear

import l0gate
from l0gate.formats import Content
from l0gate.formats._keras.writing import keras_file
from l0gate.formats.layers import Activation, Layer, Recurrent, Skip

RNG = np.random.default_rng(0)


def test_names_and_places() -> None:
    layers: list[Layer] = [
        Recurrent("rec", "lstm", (direction(RNG, "lstm", 2, 3),)),
        Recurrent("rec.1", "lstm", (direction(RNG, "lstm", 3, 4),)),
        linear(RNG, 4, 1),
        Activation("swish"),
    ]
    with zipfile.ZipFile(io.BytesIO(keras_file(Content(layers)))) as archive:
        model = json.loads(archive.read("config.json"))
    names = [entry["config"]["name"] for entry in model["config"]["layers"]]
    assert names == ["input", "rec", "rec_1", "out", "layer_3"]
    assert model["config"]["layers"][-1]["config"]["activation"] == "silu"


def test_the_same_net_gives_the_same_bytes_of_configuration() -> None:
    first, second = (
        zipfile.ZipFile(io.BytesIO(keras_file(Content(amplifier())))).read("config.json")
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([*amplifier(), Skip()], "connection from the input"),
        ([*amplifier(), Activation("hard_tanh")], "no activation 'hard_tanh'"),
        (
            [Recurrent("r", "gru", (direction(RNG, "gru", 1, 3), direction(RNG, "gru", 1, 2)))],
            "directions of one size",
        ),
    ],
)
def test_what_it_cannot_hold_is_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        keras_file(Content(layers))
