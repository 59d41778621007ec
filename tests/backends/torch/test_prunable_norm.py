"""A LayerNorm over neurons that are pruned: exact, saved, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates

import l0gate
from l0gate import L0GateError
from l0gate.backends import PrunableLayerNorm
from l0gate.backends._torch.prunable_norm import prunable_layer_norm

X, H = 5, 8


class Normed(nn.Module):
    """A norm after a recurrent layer, of one direction or both."""

    def __init__(self, both: bool = False, affine: bool = True) -> None:
        super().__init__()
        self.rnn = nn.GRU(X, H, bidirectional=both)
        self.norm = nn.LayerNorm(H * (1 + both), elementwise_affine=affine)
        if affine:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)
        self.out = nn.Linear(H * (1 + both), 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.norm(self.rnn(x)[0]).relu())


class Cell(nn.Module):
    """An LSTM of linear layers with a norm of its cell's state, as LayerNorm-LSTMs have it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = H
        self.i, self.h = nn.Linear(X, 4 * H), nn.Linear(H, 4 * H)
        self.norm, self.out = nn.LayerNorm(H), nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Any:
        h = c = x.new_zeros(x.shape[1], self.hidden)
        for x_t in x:
            i, f, g, o = (self.i(x_t) + self.h(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm(c).tanh()
        return self.out(h)


BUILDS = {
    "one way": Normed,
    "both ways": lambda: Normed(both=True),
    "without weights": lambda: Normed(affine=False),
    "LSTM with a norm": Cell,
}


def small_of(name: str) -> tuple[Any, Any, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(4, 2, X)
    model = PrunableLayerNorm.replace_all(BUILDS[name]())
    gated = l0gate.gate(model, example_inputs=x, strength=1e-3, strict=True)
    set_gates(gated)
    return gated.eval(), gated.shrink().eval(), x


@pytest.mark.parametrize("name", BUILDS)
def test_it_is_pruned_exactly_saved_and_loaded(name: str, tmp_path: Path) -> None:
    gated, small, x = small_of(name)
    assert all(len(k) < gated.pruner.sizes[a] for a, k in small.certificate.kept.items())
    assert small.certificate.max_abs_difference < 1e-12
    assert small.norm.normalized_shape == (small.out.in_features,)
    assert_close(small(x), gated(x))
    l0gate.save(tmp_path / "net.npz", small)
    build = BUILDS[name]
    again = l0gate.load(tmp_path / "net.npz", into=lambda: PrunableLayerNorm.replace_all(build()))
    assert torch.equal(again.eval()(x), small(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_it_is_exported(dynamo: bool, tmp_path: Path) -> None:
    _, small, x = small_of("one way")
    assert_close(torch.export.export(small, (x,)).module()(x), small(x))
    path = str(tmp_path / "net.onnx")
    torch.onnx.export(small, (x,), path, dynamo=dynamo, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(y, small(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_the_dense_one_is_torchs() -> None:
    x = torch.randn(4, 7, H, dtype=torch.float64)
    stock = Normed().double().norm
    ours: Any = PrunableLayerNorm.replace_all(nn.Sequential(stock))[0]
    torch.testing.assert_close(ours(x), stock(x), rtol=1e-12, atol=1e-12)


def test_removed_neurons_count_as_zeros() -> None:
    x = torch.randn(4, H, dtype=torch.float64)
    x[:, 5:] = 0.0
    expected = nn.functional.layer_norm(x, (H,))[:, :5]
    ones = torch.ones(1, 5, dtype=torch.float64)
    found = prunable_layer_norm(x[:, :5], ones, None, None, H, 1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_message_about_a_layer_norm_names_it() -> None:
    with pytest.raises(L0GateError, match=r"put `l0gate\.backends\.PrunableLayerNorm` in its"):
        l0gate.gate(Normed(), example_inputs=torch.randn(4, 2, X), strength=1e-3, strict=True)


def test_it_has_one_dimension() -> None:
    with pytest.raises(L0GateError, match=r"`normalized_shape` is \(2, 3\)"):
        PrunableLayerNorm((2, 3))
