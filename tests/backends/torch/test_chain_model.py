"""A chain of layers as a torch module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from format_cases import amplifier, direction, linear, nets, saved
from hypothesis import given, settings

import l0gate
from l0gate._chain import Chain
from l0gate._vocabulary import ACTIVATIONS
from l0gate.backends._torch.chain_model import ChainModel
from l0gate.formats.layers import Activation, Embedding, Layer, Recurrent, Selection
from l0gate.formats.proof import example_sequences
from l0gate.formats.runner import run_net
from l0gate.reference._activations import activation

RNG = np.random.default_rng(0)


@given(nets(bidirectional=True, embedding=True, selection=False))
@settings(deadline=None, max_examples=25)
def test_it_computes_what_the_net_does(layers: list[Layer]) -> None:
    model = saved(layers).to_torch()
    for x in example_sequences(layers):
        y, states = model(torch.as_tensor(x)[:, None])
        np.testing.assert_allclose(y[:, 0].detach(), run_net(saved(layers), x), atol=1e-5)
        again, _ = model(torch.as_tensor(x)[:, None], states)
        assert again.shape == y.shape


@pytest.mark.parametrize("function", sorted({*ACTIVATIONS} - {"hard_sigmoid_keras2"}))
def test_every_activation_is_the_same_in_torch(function: str) -> None:
    layers = [linear(RNG, 3, 5), Activation(function)]
    x = (3 * RNG.standard_normal((40, 3))).astype(np.float32)
    y, _ = saved(layers).to_torch()(torch.as_tensor(x)[:, None])
    np.testing.assert_allclose(y[:, 0].detach(), run_net(saved(layers), x), atol=1e-5)


def test_a_slope_is_kept() -> None:
    for function in ("leaky_relu", "elu"):
        sloped = {"type": "activation", "function": function, "slope": 0.3}
        chain = Chain([{"type": "linear", "name": "out", "bias": False}, sloped])
        y, _ = ChainModel(chain, {"out.weight": np.eye(2)})(torch.tensor([[[-2.0, 2.0]]]))
        expected = activation(function, 0.3)(np.array([-2.0, 2.0], np.float32))
        np.testing.assert_allclose(y[0, 0].detach(), expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_imported_net_is_gated_shrunk_and_exported(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "amp.json"
    l0gate.export(saved(amplifier(8, cell)), path, "guitarml")

    model = l0gate.import_(path).to_torch()
    x = torch.randn(30, 4, 1)
    gated = l0gate.gate(model, example_inputs=x, budget=l0gate.Budget(parameters=0.5), distill=True)
    optimizer = torch.optim.Adam(gated.param_groups(1e-3))
    for step in range(30):
        loss = gated.distill(x) + gated.penalty(step / 30)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    small = gated.shrink()
    l0gate.export(small, path, "guitarml")

    expected, _ = small.eval()(x)
    y, _ = l0gate.import_(path)(x.numpy())
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Recurrent("r", "gru", (direction(RNG, "gru", 1, 3),), False), linear(RNG, 3, 1)],
            "reset",
        ),
        (
            [
                Recurrent("r_l0", "lstm", (direction(RNG, "lstm", 1, 3),)),
                Recurrent("r_l1", "lstm", (direction(RNG, "lstm", 3, 4),)),
            ],
            r"sizes \[3, 4\]",
        ),
        ([Selection(np.array([1]), 2), *amplifier()], "1 of 2 inputs"),
        ([*amplifier(), Activation("hard_sigmoid_keras2")], "'hard_sigmoid_keras2', for which"),
    ],
)
def test_what_torch_lacks_is_said(layers: list[Layer], message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        saved(layers).net().to_torch()


def test_names_with_dots_become_nested_modules() -> None:
    words = Embedding("encoder.words", np.ones((3, 2), np.float32))
    model = saved([words, Activation("tanh"), linear(RNG, 2, 1)]).to_torch()
    assert set(model.state_dict()) == {"encoder.words.weight", "out.weight", "out.bias"}


def test_a_net_bound_by_hand_is_to_be_saved_first() -> None:
    net = l0gate.get_backend("numpy").net([{"type": "gru", "name": "rnn"}])
    small = net.bind(net.init(RNG, input_size=2, sizes={"rnn": 3}))
    with pytest.raises(l0gate.L0GateError, match=r"save it with `l0gate.save`"):
        small.to_torch()
