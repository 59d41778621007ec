"""What formats of one stack have in common."""

from __future__ import annotations

import pytest
from format_cases import amplifier

import l0gate
from l0gate.formats.layers import Recurrent
from l0gate.formats.one_stack import OneStack


class Amplifiers(OneStack):
    name = "amplifiers"
    title, body, instead = "the format", "holds a stack and a linear layer", "take another"

    def check_cell(self, layer: Recurrent, first: Recurrent) -> None:
        assert layer.cell == first.cell


def test_a_stack_and_its_linear_layer() -> None:
    layers = amplifier(5)
    stack, last = Amplifiers().stack_of(layers)
    assert [*stack, last] == layers
    assert Amplifiers().accepted_sizes([5, 7]) == [7, 7]
    with pytest.raises(l0gate.L0GateError, match=r"the format holds a stack .*; take another"):
        Amplifiers().stack_of(layers[:1])
