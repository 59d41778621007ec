"""`.keras` and `.h5` files, without Keras: read back, damaged, hostile."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from format_cases import SETTINGS, amplifier, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats import Content
from l0gate.formats._keras.keras_format import Keras, KerasH5
from l0gate.formats.layers import Layer
from l0gate.formats.proof import prove
from l0gate.formats.runner import ReadBack

KERAS = Keras()


@given(nets(embedding=True, reset_before=True))
@settings(**SETTINGS)
def test_round_trip(layers: list[Layer]) -> None:
    written = KERAS.write(Content(layers))
    found = KERAS.read(written)
    prove(saved(layers), layers, ReadBack(saved(list(found.layers)), "keras"), "keras", 0)
    again = KERAS.read(KERAS.write(found))
    for a, b in zip(
        saved(list(found.layers)).parameters.items(),
        saved(list(again.layers)).parameters.items(),
        strict=True,
    ):
        assert a[0] == b[0]
        np.testing.assert_array_equal(a[1], b[1])


def changed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(KERAS.write(Content(amplifier(3))))) as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    stored |= {name.replace("_", ".", 1).replace("_", "."): data for name, data in files.items()}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in stored.items():
            if data != b"gone":
                archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK nonsense", "is no .keras file"),
        (KERAS.write(Content(amplifier(3)))[:-200], "is no .keras file"),
        (changed(config_json=b"[" * 10**6), "nested too deeply"),
        (changed(config_json=b'{"class_name": "Sequential"}'), "`layers` in `config`"),
        (changed(config_json=b"gone"), "lacks config.json"),
        (changed(model_weights_h5=b"nonsense"), "is no HDF5 file"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.keras"
    path.write_bytes(content)
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.import_(path)


def h5(config: Any, arrays: dict[str, np.ndarray], names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
        group = file.create_group("model_weights/rnn")
        for name, array in arrays.items():
            group[name] = array
        group.attrs["weight_names"] = np.array([name.encode() for name in names])
    return buffer.getvalue()


CONFIG = {
    "class_name": "Sequential",
    "config": [
        {
            "class_name": "GRU",
            "config": {"name": "rnn", "units": 2, "reset_after": True, "return_sequences": True},
        }
    ],
}
SHAPES = {"rnn/kernel:0": (1, 6), "rnn/recurrent_kernel:0": (2, 6), "rnn/bias:0": (2, 6)}
RANDOM = {n: np.random.default_rng(0).standard_normal(s).astype("f4") for n, s in SHAPES.items()}


def test_a_legacy_file(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    path.write_bytes(h5(CONFIG, RANDOM, list(SHAPES)))
    net = l0gate.import_(path)
    kernel = RANDOM["rnn/kernel:0"].T
    np.testing.assert_array_equal(net.parameters["rnn.weight_ih_l0"][:2], kernel[2:4])
    assert net.net.batch_first
    with pytest.raises(l0gate.L0GateError, match="reads but never writes"):
        l0gate.export(net, path)


def test_damaged_legacy_files() -> None:
    for content, message in (
        (h5(None, RANDOM, list(SHAPES)), "weights without a model"),
        (h5(CONFIG, {}, list(SHAPES)), "lacks the arrays"),
        (h5(CONFIG, RANDOM, list(SHAPES)[:2]), "2 arrays"),
        (h5(CONFIG, {**RANDOM, "rnn/bias:0": np.ones((2, 7))}, list(SHAPES)), r"\(2, 7\)"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            KerasH5().read(content)
