"""What a format must define, and what it may leave."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier

import l0gate
from l0gate.formats import Content, Format
from l0gate.formats.format import refuse
from l0gate.formats.layers import Embedding, Other, Selection, Skip


class Nothing(Format):
    name = "nothing"


def test_a_format_may_read_or_write_only() -> None:
    with pytest.raises(l0gate.L0GateError, match="'nothing', which l0gate reads and does not"):
        Nothing().write(Content(amplifier()))
    with pytest.raises(l0gate.L0GateError, match="'nothing', which l0gate writes and does not"):
        Nothing().read(b"")
    assert Nothing().accepted_sizes([3, 4]) == [3, 4]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (amplifier(8)[0], "'rec' (LSTM, 1 inputs, 8 outputs)"),
        (Selection(np.array([1]), 4), "1 of 4 inputs"),
        (Skip(), "from the input to the output"),
        (Embedding("words", np.ones((2, 2))), "'words' (embedding)"),
        (Other({"type": "conv1d", "name": "front"}), "'front' (conv1d)"),
        (amplifier()[-1], "layer 'out'"),
    ],
)
def test_a_refusal_names_the_layer_and_the_way_round(layer: object, words: str) -> None:
    message = str(refuse(layer, "FORMAT", "cannot", "do this instead"))  # type: ignore[arg-type]
    assert words in message
    assert message.endswith("FORMAT cannot; do this instead")
