"""Models of many shapes: gated, shrunk, saved and loaded, they compute what the gated one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import set_gates
from torch_shapes import (
    EXPECTED_WARNINGS,
    SHAPES,
    X_IN,
    H,
    X,
    assert_same,
    plain,
    shape,
)

import l0gate
from l0gate.backends._torch.pytree import tensors

pytestmark = EXPECTED_WARNINGS


@pytest.mark.parametrize("name", SHAPES)
def test_small_equals_gated_and_survives_its_file(name: str, tmp_path: Path) -> None:
    build, inputs, frozen = SHAPES[name]
    torch.manual_seed(0)
    gated = l0gate.gate(build(), example_inputs=inputs, strength=1e-3).eval()
    assert set(gated.frozen) == set(gated.pruner.freeze) == frozen
    assert {axis for axis in gated.layout.axes if axis.startswith("h")} or "f0" in gated.layout.axes
    for equal, kind in ((False, "random"), (True, "random"), (False, "soft"), (True, "closed")):
        set_gates(gated, kind, seed=1)
        small = gated.shrink(equal=equal)
        assert all(len(small.certificate.kept[axis]) == gated.pruner.sizes[axis] for axis in frozen)
        assert_same(small(*inputs), gated(*inputs), small.certificate)
        if kind != "random":
            continue
        assert sum(p.numel() for p in small.parameters()) < sum(
            p.numel() for p in gated.model.parameters()
        )
        if equal:
            classes = [type(module) for module in small.modules()]
            assert classes == [type(module) for module in gated.model.modules()]
        l0gate.save(tmp_path / "small.npz", small)
        torch.manual_seed(1)
        loaded = l0gate.load(tmp_path / "small.npz", into=build()).eval()
        assert loaded.state_dict().keys() == small.state_dict().keys()
        for one, other in zip(tensors(loaded(*inputs)), tensors(small(*inputs)), strict=True):
            assert torch.equal(one, other)


# States ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LSTM cells", "GRU cell", "RNN cells", "RNN", "projection"])
def test_returned_states_are_those_of_the_neurons_kept(name: str) -> None:
    build, inputs, _ = SHAPES[name]
    torch.manual_seed(0)
    gated = l0gate.gate(build(), example_inputs=inputs, strength=1e-3).eval()
    set_gates(gated)
    small = gated.shrink()
    kept = small.certificate.kept
    _, expected = gated(*inputs)
    _, found = small(*inputs)
    if name == "projection":
        axes = ["p0", "h0"]
    elif name == "RNN":  # a tensor by layer, in a tuple where the layers differ
        expected, axes = list(expected), ["h0", "h1"]
    else:
        axes = [
            axis for i, _ in enumerate(expected) for axis in [f"h{i}"] * len(_by_kind(expected[i]))
        ]
        expected, found = (
            [state for one in states for state in _by_kind(one)] for states in (expected, found)
        )
    assert len(found) == len(expected) == len(axes)
    for axis, one, other in zip(axes, found, expected, strict=True):
        torch.testing.assert_close(one, other[..., kept[axis]], rtol=1e-10, atol=1e-12)


def test_running_statistics_are_those_of_training() -> None:
    build, inputs, _ = SHAPES["convolution, norm and pool"]
    torch.manual_seed(0)
    gated = l0gate.gate(build(), example_inputs=inputs, strength=1e-3).train()
    before = gated.model.norm.running_mean.clone()
    gated(*inputs)
    assert gated.model.norm.num_batches_tracked == 1
    assert not torch.equal(gated.model.norm.running_mean, before)
    set_gates(gated.eval())
    small = gated.shrink()
    kept = small.certificate.kept["x"]
    assert torch.equal(small.norm.running_mean, gated.model.norm.running_mean[kept])
    assert small.norm.num_features == len(kept) < 7
    assert (small.conv.out_channels, small.conv.in_channels) == (len(kept), X)
    assert small.norm.num_batches_tracked == 1


def _by_kind(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def test_projections_keep_neurons_for_torch() -> None:
    """PyTorch tells a projection by its size, so closed neurons stay where too few are open."""
    model = shape(plain, nn.LSTM(X, H, 2, proj_size=5), 5)
    gated = l0gate.gate(model, example_inputs=X_IN, strength=1e-3)
    with torch.no_grad():
        for axis, values in gated.log_alpha.items():
            values.fill_(3.0)
            if axis in ("h0", "h1"):
                values[2:] = -5.0
            if axis == "p1":
                values[3:] = -5.0
    for equal, hidden_sizes in ((False, (6, 4)), (True, (6, 6))):
        small = gated.shrink(equal=equal)
        assert tuple(len(small.certificate.kept[a]) for a in ("h0", "h1")) == hidden_sizes
        assert isinstance(small.rnn, nn.LSTM) == equal
