"""Closed neurons change no output."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier, direction, linear, nets, saved
from hypothesis import given, settings
from hypothesis import strategies as st

import l0gate
from l0gate.formats.layers import Layer, Recurrent, input_size, recurrent_layers
from l0gate.formats.padding import padded
from l0gate.formats.runner import run_net

RNG = np.random.default_rng(0)


@given(nets(reset_before=True), st.data())
@settings(deadline=None, max_examples=40)
def test_padding_is_exact(layers: list[Layer], data: st.DataObject) -> None:
    sizes = [layer.outputs + data.draw(st.integers(0, 5)) for layer in recurrent_layers(layers)]
    wide = padded(layers, sizes)
    assert [layer.outputs for layer in recurrent_layers(wide)] == sizes
    x = RNG.standard_normal((9, input_size(layers) or 0)).astype(np.float32)
    np.testing.assert_allclose(run_net(saved(wide), x), run_net(saved(layers), x), atol=2e-6)


def test_sizes_that_cannot_be_are_refused() -> None:
    ends = (direction(RNG, "gru", 1, 3), direction(RNG, "gru", 1, 3))
    both: list[Layer] = [Recurrent("rnn", "gru", ends), linear(RNG, 6, 1)]
    for layers, sizes, message in (
        (amplifier(8), [7], "cannot be less"),
        (amplifier(8), [8, 8], "2 sizes"),
        (both, [8], "two directions"),
        (amplifier(8)[:1], [9], "end the net with a linear layer"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            padded(layers, sizes)
