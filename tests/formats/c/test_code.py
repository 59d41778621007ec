"""What a header can hold."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier, direction, linear

import l0gate
from l0gate.formats._c.code import code_of
from l0gate.formats.layers import Activation, Embedding, Layer, Other, Recurrent

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),) * 2)], "reads the future"),
        ([*amplifier(), Activation("gelu")], "no function 'gelu'"),
        ([Recurrent("r", "lstm", (direction(RNG, "lstm", 1, 3),), activation="mish")], "'mish'"),
        ([Other({"type": "conv1d", "name": "front"})], r"'front' \(conv1d\)"),
    ],
)
def test_what_it_cannot_hold_is_refused(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        code_of(layers, "net", False)


def test_states_and_products() -> None:
    code = code_of([*amplifier(9)], "net", False)
    assert code.state == [("h0", 16), ("c0", 16)]
    assert code.products == {1, 4}
    assert not code.tokens
    words = [Embedding("e", np.ones((3, 2), "f4")), linear(RNG, 2, 1)]
    assert code_of(words, "net", True).tokens
