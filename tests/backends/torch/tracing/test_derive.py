"""Layouts derived from torch models: patterns, names of axes, and modules that did not run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from strategies import chains
from torch import Tensor, nn
from torch_models import Chained, Language, inputs_of, set_gates
from torch_shapes import EXPECTED_WARNINGS, SHAPES, X_IN, X, assert_same
from traced_models import Model, assert_shrinks, gated_model, hidden

import l0gate
from l0gate import L0GateError, Layout
from l0gate._chain import Chain
from l0gate.backends._torch.tracing.derive import derive

pytestmark = EXPECTED_WARNINGS


@given(chains())
def test_a_chain_has_the_layout_of_its_description(case: dict[str, Any]) -> None:
    model = Chained(case)
    chain = Chain(case["layers"], case["batch_first"])
    derived = derive(model, ((inputs_of(case),), {}))
    expected = chain.layout.to_dict()
    if chain.input_axis:  # the model's own inputs are not gated: callers give all of them
        assert chain.input_axis == "x"
        expected = {name: text.replace("<- x", "<- _") for name, text in expected.items()}
    assert derived.layout.to_dict() == expected
    frozen = {axis for axis in derived.layout.axes if axis in derived.reasons}
    assert frozen == set(chain.frozen)


def test_two_tables_have_axes_of_their_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.tags = nn.Embedding(11, 4), nn.Embedding(11, 3)
            self.rnn, self.out = nn.GRU(7, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.rnn(torch.cat([self.words(x), self.tags(x)], -1))[0])
            return y

    gated = gated_model(Two())
    assert gated.layout.to_dict()["rnn.weight_ih_l0"] == "(3 h0) <- (x + x_2)"
    assert_shrinks(gated)


def test_recurrent_modules_are_never_left_out_in_silence() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x)))
    model.spare = nn.GRU(6, 8)
    with pytest.warns(UserWarning, match=r"'spare' \(GRU\) did not run on `example_inputs`"):
        gated_model(model)
    with pytest.raises(L0GateError, match=r"no recurrent layer of torch's own that could"):
        gated_model(nn.Linear(2, 2), torch.zeros(1, 2))


def test_a_part_that_does_not_run_is_named() -> None:
    def run(m: Any, x: Tensor) -> Any:
        y = hidden(m, x)
        return (m.out(y), m.aid(y)) if m.training else m.out(y)

    model = Model(run)
    model.aid = nn.Linear(8, 4)
    with pytest.warns(UserWarning, match=r"aid did not run on `example_inputs` in eval mode"):
        assert_shrinks(gated_model(model))


def test_frozen_axes_must_be_the_models() -> None:
    with pytest.raises(
        L0GateError, match="`freeze` names 'h2'; the axes of the model are x, h0, h1"
    ):
        gated_model(Language(), freeze=["h0", "h2"])


def test_the_model_is_left_as_it_was() -> None:
    model = Language(dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    gated_model(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["LSTM", "projection", "tied embedding", "residual", "pooling"])
def test_a_derived_layout_can_be_printed_edited_and_given(name: str) -> None:
    build, inputs, _ = SHAPES[name]
    torch.manual_seed(0)
    model = build()
    derived = l0gate.gate(model, example_inputs=inputs, strength=1e-3)
    set_gates(derived)
    expected = derived.shrink()
    for layout in (derived.layout, Layout(derived.layout.to_dict())):
        given_layout = l0gate.gate(model, layout=layout, example_inputs=inputs, strength=1e-3)
        set_gates(given_layout)
        small = given_layout.shrink()
        assert small.state_dict().keys() == expected.state_dict().keys()
        for key, value in small.state_dict().items():
            assert torch.equal(value, expected.state_dict()[key])


def test_a_derived_layout_without_one_axis() -> None:
    model = SHAPES["LSTM"][0]()
    derived = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).layout.to_dict()
    edited = {name: str(text).replace("x", "_") for name, text in derived.items()}
    gated = l0gate.gate(model, layout=Layout(edited), example_inputs=X_IN, strength=1e-3).eval()
    assert gated.layout.axes == ("h0",)
    set_gates(gated)
    small = gated.shrink()
    assert small.table.embedding_dim == X
    assert_same(small(X_IN), gated(X_IN), small.certificate)
