"""What is known of a model before it is gated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_models import Features, Language, tokens

from l0gate import L0GateError, Layout
from l0gate.backends._torch.gating.study import study


def test_a_model_with_example_inputs() -> None:
    found = study(Language(), tokens(), None, (), strict=False)
    assert found.layout.axes == ("x", "h0", "h1")
    assert found.state_axes == {"rnn": (("h0", "h1"),) * 2}
    assert found.chain is not None
    assert found.stateful == {"rnn"}  # `forward` hands on its own `state`, though it is None
    assert found.examples is not None
    assert found.examples.any_size
    assert found.examples.tokens == {0: 11}


def test_a_layout_alone_is_tried_on_likely_inputs() -> None:
    layout = Layout.lstm(2, embedding=None)
    found = study(Features(), None, layout, ("h1",), strict=False)
    assert found.layout is layout
    assert dict(found.derived.reasons) == {"h1": "named in `freeze`"}
    assert found.examples is not None

    class Two(Features):
        def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, offset)

    found = study(Two(), None, layout, (), strict=False)
    assert (found.examples, found.chain, found.stateful) == (None, None, None)
    assert found.state_axes == {"rnn": (("h0", "h1"),) * 2}


def test_initial_states_are_noticed() -> None:
    state = torch.zeros(2, 3, 8)
    found = study(Language(nn.GRU), (tokens(), state), None, (), strict=False)
    assert found.stateful == {"rnn"}
    assert found.examples is not None
    assert not found.examples.any_size


def test_the_examples_are_copies() -> None:
    x = tokens()
    found = study(Language(), x, None, (), strict=False)
    x.zero_()
    assert found.examples is not None
    assert found.examples.inputs[0][0].any()


def test_names_that_are_no_tensor_of_the_model() -> None:
    for model, name, message in (
        (Language(), "rnn.weight", r"the parameter 'rnn\.weight', which the model does not have"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), "weight", "which is computed"),
    ):
        layout = Layout({name: "_ <- x"})
        with pytest.raises(L0GateError, match=message):
            study(model, None, layout, (), strict=False)
    with pytest.raises(L0GateError, match="give `example_inputs`, a tuple"):
        study(Language(), None, None, (), strict=False)
