"""Written files, run by Keras itself; and files that Keras writes, read here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import amplifier, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats import Content
from l0gate.formats._keras.keras_format import Keras
from l0gate.formats._keras.running import KerasRunner, keras_backend
from l0gate.formats.layers import Layer
from l0gate.formats.proof import prove

no_keras = pytest.mark.skipif(
    find_spec("keras") is None, reason="needs keras, which .ci/run installs"
)


def test_without_keras_the_file_is_read_back(monkeypatch: Any) -> None:
    monkeypatch.setattr("l0gate.formats._keras.running.find_spec", lambda name: None)
    assert keras_backend() is None
    runner = Keras().runner(Keras().write(Content(amplifier())))
    assert runner.name == "l0gate's own reader of keras"


def test_a_keras_that_fails_is_told() -> None:
    runner = KerasRunner(b"nonsense", "no_such_backend")
    with pytest.raises(l0gate.L0GateError, match="cannot run the written file"):
        runner.sequence(np.ones((3, 1), np.float32))
    runner.close()


@no_keras
@given(nets(embedding=True, reset_before=True))
@settings(deadline=None, max_examples=4)
def test_keras_computes_the_same(layers: list[Layer]) -> None:
    written = Keras().write(Content(layers))
    runner = Keras().runner(written)
    assert runner.name.startswith("Keras on")
    try:
        prove(saved(layers), layers, runner, "keras", 0)
    finally:
        runner.close()


@no_keras
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_files_that_keras_writes(tmp_path: Path, ending: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("KERAS_BACKEND", keras_backend() or "torch")
    import keras
    from keras import layers

    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(5, return_sequences=True, name="middle"),
            layers.Dropout(0.5),
            layers.TimeDistributed(layers.Dense(2, activation="relu")),
            layers.Dense(3, activation="softmax"),
            layers.GRU(2, reset_after=False, recurrent_activation="hard_sigmoid"),
            layers.Dense(1),
        ]
    )
    for weight in model.weights:
        weight.assign(0.5 * rng.standard_normal(weight.shape))
    path = tmp_path / f"model.{ending}"
    model.save(path)
    x = rng.standard_normal((2, 9, 3)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))
    y, _ = l0gate.import_(path)(x)
    np.testing.assert_allclose(y[:, -1], expected, atol=1e-5)
