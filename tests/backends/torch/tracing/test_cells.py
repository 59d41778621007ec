"""Cells that users write themselves, from linear layers or products, are followed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_cells import STEPS, H, Own, Simple, Step, X, chunked, gru
from torch_models import assert_close, set_gates

import l0gate
from l0gate import L0GateError


@pytest.mark.filterwarnings("ignore:.*did not run on `example_inputs`")
@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_a_cell_is_followed(step: Step) -> None:
    x = torch.randn(4, 2, X)
    gated = l0gate.gate(Own(step, STEPS[step]), example_inputs=x, strength=1e-3, strict=True)
    assert gated.pruner.sizes == {"h0": H}
    set_gates(gated)
    small: Any = gated.eval().shrink()
    assert small.hidden == small.out.in_features < H
    assert small.certificate.max_abs_difference < 1e-12
    assert_close(small(x), gated(x))


class Stacked(nn.Module):
    """Two cells of the user's own behind an embedding, and one of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, X)
        self.cells = nn.ModuleList([Own(gru, 3), Own(chunked, 4)])
        self.cells[1].i = nn.Linear(H, 4 * H)
        self.rnn = nn.GRU(H, H)
        self.out = nn.Linear(H, 3)

    def forward(self, words: Tensor) -> Any:
        x = self.table(words)
        for cell in self.cells:
            h = c = x.new_zeros(x.shape[1], cell.hidden)
            outs = []
            for x_t in x:
                h, c = cell.step(cell, x_t, h, c)
                outs.append(h)
            x = torch.stack(outs)
        return self.out(self.rnn(x)[0])


@pytest.mark.filterwarnings("ignore:.*did not run on `example_inputs`")
@pytest.mark.parametrize("build", [Simple, Stacked])
def test_several_layers(build: Any) -> None:
    x = torch.randn(4, 2, X) if build is Simple else torch.randint(11, (4, 2))
    gated = l0gate.gate(build(), example_inputs=x, strength=1e-3, strict=True)
    assert len(gated.layout.axes) == (2 if build is Simple else 4)
    set_gates(gated)
    small = gated.eval().shrink()
    assert all(len(kept) < H for kept in small.certificate.kept.values())
    assert_close(small(x), gated(x))


def test_a_model_without_neurons_to_follow_is_told_the_form_of_a_layout() -> None:
    with pytest.raises(L0GateError, match=r"`layout=` describes a model by hand, as in `layout="):
        l0gate.gate(nn.Linear(2, 2), example_inputs=torch.zeros(1, 2), strength=1e-3)
