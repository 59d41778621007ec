"""`.nam` files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from format_cases import SETTINGS, amplifier, direction, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats import Content
from l0gate.formats._nam import Nam
from l0gate.formats.layers import Layer, Recurrent, Skip, input_size, with_all_inputs
from l0gate.formats.proof import prove

NAM = Nam()
no_nam = pytest.mark.skipif(
    find_spec("nam") is None, reason="needs neural-amp-modeler, which .ci/run installs"
)


def file(**changes: Any) -> dict[str, Any]:
    return {**json.loads(NAM.write(Content(amplifier(3)))), **changes}


@given(nets(cells=("lstm",), equal=True, outputs=1, functions=(), linear_bias=False))
@settings(**SETTINGS)
def test_round_trip(layers: list[Layer]) -> None:
    written = NAM.write(Content(layers))
    assert prove(saved(layers), layers, NAM.runner(written), "nam", 0).stepwise
    found = NAM.read(written)
    assert NAM.write(found) == written


def test_the_first_state_is_that_after_silence() -> None:
    layers = amplifier(3)
    found = NAM.read(NAM.write(Content(layers))).metadata["nam"]["first_state"]
    net, state = saved(layers).net(), None
    for _ in range(48):
        _, state = net(np.zeros((1000, 1, 1), np.float32), state)
    np.testing.assert_allclose(np.array(found[0]), np.stack(state[0])[:, 0], atol=1e-6)


def test_a_sample_rate_stays_and_none_is_left_out() -> None:
    assert "sample_rate" not in json.loads(NAM.write(Content(amplifier(3))))
    written = NAM.write(Content(amplifier(3)), sample_rate=44100)
    assert json.loads(NAM.write(NAM.read(written)))["sample_rate"] == 44100
    for wrong in (-1, "44100", True, float("nan")):
        with pytest.raises(l0gate.L0GateError, match="`sample_rate` is"):
            NAM.write(Content(amplifier(3)), sample_rate=wrong)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (amplifier(3, "gru"), "LSTM layers with tanh and sigmoid only; use the format 'rtneural'"),
        ([*amplifier(3), Skip()], "connection from the input"),
        (amplifier(3)[:1], "then a linear layer"),
    ],
)
def test_what_it_cannot_hold_is_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        NAM.write(Content(layers))


def test_unequal_sizes_name_the_way_round() -> None:
    rng = np.random.default_rng(0)
    stack: list[Layer] = [
        Recurrent("a", "lstm", (direction(rng, "lstm", 1, 4),)),
        Recurrent("b", "lstm", (direction(rng, "lstm", 4, 3),)),
    ]
    with pytest.raises(l0gate.L0GateError, match=r"'b'.*the first has 4.*pad_to"):
        NAM.write(Content([*stack, amplifier(3)[-1]]))
    assert NAM.accepted_sizes([4, 3]) == [4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "WaveNet"}, "'WaveNet'; l0gate reads LSTM"),
        ({"weights": [1.0] * 5}, "has 5 weights; its config needs 70"),
        ({"config": {"input_size": 1, "hidden_size": 2**40, "num_layers": 1}}, "hidden_size"),
        ({"config": {"input_size": 1, "hidden_size": 2**20, "num_layers": 1}}, "needs"),
        ({"config": {"input_size": 1, "hidden_size": 3, "num_layers": 2**20}}, "1,000"),
        ({"config": 3}, "`config`"),
        ({"metadata": 3}, "`metadata`"),
        ({"weights": "x"}, "`weights`"),
    ],
)
def test_damaged_files(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        NAM.read(json.dumps(file(**changes)).encode())


@no_nam
@given(nets(cells=("lstm",), equal=True, outputs=1, functions=(), linear_bias=False))
@settings(**SETTINGS)
def test_neural_amp_modeler_computes_the_same(layers: list[Layer]) -> None:
    import torch
    from nam.models import init_from_nam

    layers = with_all_inputs(layers)
    written = NAM.write(Content(layers))
    model = init_from_nam(json.loads(written)).eval()
    states = NAM.read(written).metadata["nam"]["first_state"]
    x = np.random.default_rng(0).standard_normal((50, input_size(layers) or 1)).astype(np.float32)
    given = tuple((np.array(h, "f4")[None], np.array(c, "f4")[None]) for h, c in states)
    expected, _ = saved(layers).net()(x[:, None], given)
    signal = torch.as_tensor(x[None] if x.shape[1] > 1 else x.T)
    with torch.no_grad():
        y = model(signal, pad_start=False).numpy().reshape(-1)
    np.testing.assert_allclose(y[-len(x) :], expected[:, 0, 0][-len(y) :], atol=1e-5)
