"""RTNeural's JSON, and AIDA-X's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import SETTINGS, amplifier, direction, linear, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats import Content
from l0gate.formats._rtneural import RTNeural
from l0gate.formats.layers import Activation, Embedding, Layer, Recurrent, Skip
from l0gate.formats.proof import prove

RTNEURAL = RTNeural()
RNG = np.random.default_rng(0)


def file(layers: Any = None, **changes: Any) -> bytes:
    found = json.loads(RTNEURAL.write(Content(amplifier(3))))
    found |= changes
    if layers is not None:
        found["layers"][0] |= layers
    return json.dumps(found).encode()


@given(nets(linear_bias=False))
@settings(**SETTINGS)
def test_round_trip(layers: list[Layer]) -> None:
    written = RTNEURAL.write(Content(layers))
    assert prove(saved(layers), layers, RTNEURAL.runner(written), "rtneural", 0).stepwise
    assert RTNEURAL.write(RTNEURAL.read(written)) == written


def test_aida_x_has_its_fields() -> None:
    found = json.loads(RTNEURAL.write(Content(amplifier(8)), aida_x=True, in_gain=-6.0))
    assert (found["in_skip"], found["in_gain"], found["out_gain"]) == (0, -6.0, 0.0)
    x = np.array(found["input_batch"], np.float32)[:, None, None]
    y, _ = saved(amplifier(8)).net()(x)
    np.testing.assert_allclose(y.ravel(), found["output_batch"], atol=1e-6)
    with pytest.raises(l0gate.L0GateError, match="`in_gain` is 'loud'"):
        RTNEURAL.write(Content(amplifier(8)), aida_x=True, in_gain="loud")


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([Embedding("e", np.ones((3, 1), np.float32)), *amplifier(3)], {}, "no embedding"),
        ([*amplifier(8), Skip()], {}, "give `aida_x=True`"),
        ([*amplifier(3), Activation("gelu")], {}, "knows tanh, relu"),
        (amplifier(9), {"aida_x": True}, r"hidden sizes 8, 12.*pad_to"),
        ([linear(RNG, 1, 1)], {"aida_x": True}, "one LSTM or GRU"),
        ([Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),) * 2)], {}, "one direction"),
        ([Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),), False)], {}, "reset_after"),
        ([Recurrent("r", "rnn", (direction(RNG, "rnn", 1, 3),))], {}, "no such cell"),
        ([Recurrent("r", "lstm", (direction(RNG, "lstm", 1, 3),), activation="relu")], {}, "tanh"),
    ],
)
def test_what_it_cannot_hold_is_refused(
    layers: list[Layer], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        RTNEURAL.write(Content(layers), **options)


def test_a_net_of_more_neurons_than_aida_x_takes() -> None:
    with pytest.raises(l0gate.L0GateError, match="81 neurons"):
        RTNEURAL.accepted_sizes([81], aida_x=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (file({"type": "prelu"}), r"`layers\[0\]` of type 'prelu'; l0gate reads lstm"),
        (file({"shape": [None, None, 2**40]}), "`shape`"),
        (file({"shape": []}), "empty `shape`"),
        (file({"shape": [None, None, 4]}), r"\(1, 12\); expected \(1, 16\)"),
        (file({"weights": []}), "0 arrays"),
        (file(in_skip=7), "`in_skip`"),
        (file(in_shape=[]), "empty `in_shape`"),
        (file(layers=None, in_shape=[None, None, "x"]), "`in_shape`"),
        (b'{"in_shape": [1], "layers": [3]}', "`type`"),
        (b'{"in_shape": [1], "layers": []}', "no layers"),
    ],
)
def test_damaged_files(tmp_path: Any, content: bytes, message: str) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(content)
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.import_(path, "rtneural")


DATA = Path(
    os.environ.get("L0GATE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
)
MODELS = DATA / "models" / "rtneural"


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"looked for RTNeural's models in {MODELS}")
@pytest.mark.parametrize("name", ["gru", "lstm", "gru_1d", "lstm_1d", "gru_torch", "lstm_torch"])
def test_rtneural_s_own_models_reproduce_their_vectors(name: str) -> None:
    net = l0gate.import_(MODELS / "models" / f"{name}.json")
    x, y = (
        np.loadtxt(MODELS / "test_data" / f"{name}_{which}_python.csv", delimiter=",", ndmin=1)
        for which in ("x", "y")
    )
    found, _ = net(x.astype(np.float32).reshape(len(x), 1, -1))
    np.testing.assert_allclose(found.ravel(), y.ravel(), atol=2e-6)
