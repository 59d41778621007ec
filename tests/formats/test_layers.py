"""The list of layers that writers of files get."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import direction, linear, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate.formats.layers import (
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Selection,
    input_size,
    layers_of,
    output_size,
    with_all_inputs,
)
from l0gate.formats.runner import run_net

RNG = np.random.default_rng(0)


@given(nets(bidirectional=True, embedding=True, reset_before=True))
@settings(deadline=None)
def test_a_net_becomes_its_layers_again(layers: list[Layer]) -> None:
    found = layers_of(saved(layers))
    assert [type(layer) for layer in found] == [
        type(layer)
        for layer in layers
        if not (isinstance(layer, Selection) and len(layer.index) == layer.size)
    ]
    for new, old in zip(found[::-1], layers[::-1], strict=False):
        if isinstance(old, Recurrent):
            assert isinstance(new, Recurrent)
            assert (new.cell, new.reset_after) == (old.cell, old.reset_after)
            for a, b in zip(new.directions, old.directions, strict=True):
                np.testing.assert_array_equal(a.weight_ih, b.weight_ih)
                np.testing.assert_array_equal(a.biases(), b.biases())


@given(nets())
@settings(deadline=None, max_examples=30)
def test_zero_columns_are_as_good_as_a_selection(layers: list[Layer]) -> None:
    wide = with_all_inputs(layers)
    assert input_size(wide) == input_size(layers)
    assert output_size(wide) == output_size(layers)
    x = RNG.standard_normal((5, input_size(layers) or 0)).astype(np.float32)
    np.testing.assert_allclose(run_net(saved(wide), x), run_net(saved(layers), x), atol=1e-6)


def test_sizes_of_tokens_and_of_stacks() -> None:
    rnn = Recurrent("rnn", "gru", (direction(RNG, "gru", 3, 5), direction(RNG, "gru", 3, 4)))
    assert (rnn.inputs, rnn.outputs) == (3, 9)
    words = Embedding("words", np.ones((7, 3), np.float32))
    assert input_size([words, rnn]) is None
    assert output_size([words, rnn]) == 9
    with pytest.raises(l0gate.L0GateError, match="no layer with weights"):
        input_size([])


def test_a_selection_before_a_linear_layer() -> None:
    layers: list[Layer] = [Selection(np.array([0, 2]), 3), linear(RNG, 2, 4)]
    (wide,) = with_all_inputs(layers)
    assert isinstance(wide, Linear)
    assert wide.weight.shape == (4, 3)
    assert not wide.weight[:, 1].any()


def test_a_model_that_is_no_chain_is_refused() -> None:
    model = saved([linear(RNG, 2, 1)])
    with pytest.raises(l0gate.L0GateError, match=r"no chain.*torch.onnx.export"):
        layers_of(type(model)(**{**vars(model), "chain": None}))
