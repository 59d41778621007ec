"""The small model computes what the gated one does, however often and in whatever dtype."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import chains
from torch import Tensor, nn
from torch_models import (
    Chained,
    Language,
    assert_close,
    by_cell,
    gated_language,
    inputs_of,
    prunable,
    set_gates,
    small_of,
)

import l0gate
from l0gate.backends import RaggedRNN

pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:the axes .* are not pruned:UserWarning"),
]


def kept_states(state: Any, kept: list[np.ndarray]) -> list[list[Tensor]]:
    """Per part (h or c) and cell, the dense state with the neurons that stayed."""
    parts = state if isinstance(state, tuple) else (state,)
    return [[h[..., index] for h, index in zip(part, kept, strict=True)] for part in parts]


@given(chains().filter(prunable), st.booleans())
def test_the_small_model_equals_the_gated_one(case: dict[str, Any], equal: bool) -> None:
    model, x = Chained(case), inputs_of(case, seed=1)
    gated = l0gate.gate(model, example_inputs=inputs_of(case), strength=1e-3)
    set_gates(gated, case["gates"], case["seed"])
    small = gated.shrink(equal=equal)
    certificate = small.certificate
    assert certificate.max_abs_difference <= 1e-12 * max(1, certificate.max_abs_output)
    y, last = gated.eval()(x)
    found, small_last = small(x)
    assert_close(found, y)
    axes = [a for a in certificate.kept if a[0] in "hfb"]
    order = sorted(axes, key=lambda a: (int(a[1:]), a[0] == "b"))
    expected = kept_states(last, [certificate.kept[axis] for axis in order])
    assert_close(by_cell(small_last), expected)
    # States of the dense size are taken where the counts differ, and mapped ones always.
    mapped = tuple(tuple(part) for part in expected)
    if not isinstance(small.rnn, RaggedRNN):
        mapped = tuple(torch.stack(part) for part in mapped)
    again = mapped if isinstance(model.rnn, nn.LSTM) else mapped[0]
    assert_close(small(x, again)[0], gated(x, last)[0])
    if isinstance(small.rnn, RaggedRNN):
        assert_close(small(x, last)[0], gated(x, last)[0])
    if not model.rnn.bidirectional:
        assert_close(step_by_step(small, x, case["batch_first"]), y)


def step_by_step(model: nn.Module, x: Tensor, batch_first: bool) -> Tensor:
    time = 1 if batch_first else 0
    outputs, state = [], None
    for x_t in x.split(1, dim=time):
        y, state = model(x_t, state)
        outputs.append(y)
    return torch.cat(outputs, dim=time)


@given(chains().filter(prunable))
def test_a_small_model_can_be_made_smaller_still(case: dict[str, Any]) -> None:
    """Gated, shrunk, saved and given states, once more; ragged or not the first time."""
    x = inputs_of(case, seed=1)
    first = small_of(Chained(case), inputs_of(case))
    assert hasattr(first, "certificate")
    gated = l0gate.gate(first, example_inputs=inputs_of(case), strength=1e-3)
    set_gates(gated, case["gates"], case["seed"])
    second = gated.shrink()
    y, last = gated.eval()(x)
    assert_close(second(x)[0], y)
    if isinstance(second.rnn, RaggedRNN):  # of the size before, and of its own
        assert_close(second(x, last)[0], gated(x, last)[0])
        assert_close(second(x, second(x)[1])[0], gated(x, last)[0])
    backend, again = l0gate.get_backend(second), copy.deepcopy(first)
    rebuilt = backend.rebuild(again, backend.describe(second))
    assert_close(rebuilt.eval()(x)[0], y)
    assert rebuilt.state_dict().keys() == second.state_dict().keys()


def test_the_small_model_shares_nothing_with_the_gated_one() -> None:
    gated = gated_language()
    before = copy.deepcopy(gated.state_dict())
    small = gated.shrink()
    with torch.no_grad():
        for value in small.parameters():
            value.zero_()
    for name, value in gated.state_dict().items():
        assert torch.equal(value, before[name])


def test_double_half_and_bfloat16_models() -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        gated = gated_language(model=Language().to(dtype))
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert gated.log_alpha["x"].dtype == gated.penalty(0.1).dtype == wanted
        set_gates(gated)
        small = gated.shrink()
        assert small.decoder.weight.dtype == dtype
        rebuilt = l0gate.get_backend(small).rebuild(
            Language().to(dtype), l0gate.get_backend(small).describe(small)
        )
        assert torch.equal(rebuilt.decoder.weight, small.decoder.weight)


def test_states_used_as_one_tensor_lose_the_same_neurons() -> None:
    class Detached(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            y, (h, c) = self.rnn(self.embedding(x), state)
            return self.decoder(y), (h.detach(), c.detach())

    set_gates(gated := gated_language(model=Detached()))
    assert gated.layout.axes == ("x", "h0")
    small = gated.shrink()
    assert type(small.rnn) is nn.LSTM
    assert small.rnn.hidden_size < 8


@pytest.mark.parametrize("equal", [False, True])
def test_a_small_model_goes_with_its_last_reference(equal: bool) -> None:
    gated = l0gate.gate(
        nn.LSTM(3, 6, num_layers=2),
        example_inputs=torch.zeros(4, 2, 3),
        strength=0.1,
        freeze=["h1"],
    )
    set_gates(gated)
    gc.collect()
    gc.disable()  # nothing may wait for the collector, which knows nothing of a tensor's size
    try:
        small = gated.shrink(equal=equal)
        weights = [weakref.ref(weight) for weight in small.parameters()]
        del small
        assert weights
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()
