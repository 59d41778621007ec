"""Layers with their arrays as a saved model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from format_cases import direction, linear

import l0gate
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import Layer, Recurrent, Selection

RNG = np.random.default_rng(0)


def stack(*names: str, sizes: tuple[int, ...] = (3, 4, 5)) -> list[Layer]:
    widths = (2, *sizes)
    return [
        Recurrent(name, "lstm", (direction(RNG, "lstm", widths[i], sizes[i]),))
        for i, name in enumerate(names)
    ]


def test_numbered_layers_are_one_stack() -> None:
    (layer,) = assembled(stack("rec_l0", "rec_l1", "rec_l2")).net().layers
    assert (layer["name"], layer["num_layers"]) == ("rec", 3)


def test_other_names_stay_apart() -> None:
    layers = assembled(stack("rec_l1", "rec", "rec_l9")).net().layers
    assert [layer["name"] for layer in layers] == ["rec_l1", "rec", "rec_l9"]


def test_selected_inputs_are_taken_from_the_dense_ones() -> None:
    net = assembled([Selection(np.array([1, 4]), 6), *stack("rec")]).net()
    y, _ = net(np.ones((3, 1, 6), np.float32))
    assert y.shape == (3, 1, 3)
    assert net.saved.dense_sizes["x"] == 6


def test_arrays_that_do_not_fit_are_refused() -> None:
    (layer,) = stack("rec")
    assert isinstance(layer, Recurrent)
    (end,) = layer.directions
    for wrong, message in (
        (replace(end, weight_ih=np.ones((11, 2), np.float32)), "weight_ih has 11 rows"),
        (replace(end, weight_hh=np.ones((12, 4), np.float32)), "weight_ih has 12 rows"),
        (replace(end, bias_ih=np.ones(3, np.float32)), "bias_ih has shape"),
        (replace(end, weight_ih=np.full((12, 2), np.nan, np.float32)), "not finite"),
        (replace(end, weight_ih=np.ones((12, 0), np.float32)), "not empty"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            assembled([replace(layer, directions=(wrong,))])
    with pytest.raises(l0gate.L0GateError, match="reads 7 features; the layer before it writes 3"):
        assembled([layer, linear(RNG, 7, 1)])
    with pytest.raises(l0gate.L0GateError, match="no layers"):
        assembled([])


def test_selected_inputs_of_a_linear_layer_get_zero_weights() -> None:
    out = linear(RNG, 2, 1)
    net = assembled([Selection(np.array([0, 2]), 3), out]).net()
    x = RNG.standard_normal((4, 1, 3)).astype(np.float32)
    expected = x[..., [0, 2]] @ out.weight.T + out.bias
    np.testing.assert_allclose(net(x)[0], expected, atol=1e-6)
