"""What is not pruned in a model is named, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import set_gates
from torch_shapes import (
    EXPECTED_WARNINGS,
    SHAPES,
    STEPS,
    WORDS,
    X_IN,
    H,
    X,
    assert_same,
    hidden,
    lift,
    plain,
    shape,
)

import l0gate
from l0gate import L0GateError

pytestmark = EXPECTED_WARNINGS


def grouped(m: Any, x: Tensor) -> Any:
    return m.out(m.conv(hidden(m, x).permute(1, 2, 0)).mean(-1))


def met_later(m: Any, x: Tensor) -> Any:
    """Neurons that are frozen become one axis with those of the recurrent layer afterwards."""
    lifted = m.lift(m.table(x))
    shares = lifted.softmax(-1)
    return m.out(hidden(m, x) + lifted) + m.out(shares)


def related(m: Any, x: Tensor) -> Any:
    y = hidden(m, x)
    return m.out((y @ y.mT) @ y)


REASONS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "softmax over neurons": (
        lambda: shape(lambda m, x: m.out(hidden(m, x).softmax(-1)), nn.GRU(X, H, 2)),
        "h1",
        r"the model's own forward \(Shape\) uses its neurons in softmax along their own dimension",
    ),
    "neurons that meet others": (
        lambda: shape(met_later, nn.GRU(X, H, 2), lift=lift(H, X)),
        "h1",
        "uses its neurons in softmax along their own dimension",
    ),
    "average over neurons": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x) - hidden(m, x).mean(2, keepdim=True)), nn.GRU(X, H, 2)
        ),
        "h1",
        "uses its neurons in mean along their own dimension",
    ),
    "layer norm": (
        SHAPES["layer norm"][0],
        "h1",
        r"module 'norm' \(LayerNorm\) uses its neurons in layer_norm, a norm over all neurons",
    ),
    "channels in groups": (
        lambda: shape(grouped, nn.GRU(X, H, 2), conv=nn.Conv1d(H, H, 2, groups=2)),
        "h1",
        r"module 'conv' \(Conv1d\) uses its neurons in conv1d with groups=2, which assigns",
    ),
    "sum over neurons": (
        lambda: shape(lambda m, x: m.out(hidden(m, x) + hidden(m, x).sum()), nn.GRU(X, H, 2)),
        "h1",
        "uses its neurons in sum over all dimensions, their own among them",
    ),
    "summed by einsum": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x)) * torch.einsum("tbh->tb", hidden(m, x))[..., None],
            nn.GRU(X, H, 2),
        ),
        "h1",
        "uses its neurons in einsum, which sums over the neurons",
    ),
    "dot products": (
        lambda: shape(related, nn.GRU(X, H, 2)),
        "h1",
        "uses its neurons in matmul, a dot product over neurons",
    ),
    "an index of its own for each": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x).gather(0, torch.arange(H).expand(1, 3, H) % 5)[0]),
            nn.GRU(X, H, 2),
        ),
        "h1",
        "uses its neurons in gather, whose index differs from neuron to neuron",
    ),
    "statistics of the batch": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x)[-1])),
            nn.GRU(X, H, 2),
            norm=nn.BatchNorm1d(H, track_running_stats=False),
        ),
        "h1",
        r"module 'norm' \(BatchNorm1d\) keeps no running statistics, so its output depends on",
    ),
    "a norm over time": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x).transpose(0, 1))),
            nn.GRU(X, H, 2),
            norm=nn.BatchNorm1d(STEPS),
        ),
        "h1",
        r"module 'norm' \(BatchNorm1d\) uses its neurons in batch_norm over another dimension",
    ),
    "a slope for each": (
        lambda: shape(
            lambda m, x: m.out(m.slope(hidden(m, x)[-1])), nn.GRU(X, H, 2), slope=nn.PReLU(H)
        ),
        "h1",
        r"module 'slope' \(PReLU\) uses its neurons in prelu with a weight for each channel",
    ),
    "values of the code's own": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x) + torch.linspace(0, 1, H).to(m.out.weight)),
            nn.GRU(X, H, 2),
        ),
        "h1",
        r"the model's own forward \(Shape\) uses its neurons in add, together with a tensor that",
    ),
    "a fixed size": (
        lambda: shape(lambda m, x: m.out(hidden(m, x).reshape(-1, H)), nn.GRU(X, H, 2)),
        "h1",
        r"tried on random gates, .* shape '\[-1, 8\]' is invalid",
    ),
    "max_norm": (
        lambda: shape(plain, nn.GRU(X, H), table=nn.Embedding(WORDS, X, max_norm=1.0)),
        "x",
        r"module 'table' \(Embedding\) has max_norm, a norm over all neurons",
    ),
    "seen": (SHAPES["output seen"][0], "h1", "the model returns its neurons to the caller"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_frozen_is_named_with_its_reason(name: str) -> None:
    build, axis, message = REASONS[name]
    model = build()
    with pytest.warns(
        UserWarning, match=rf"(?s)are frozen, not pruned:.*axis '{axis}': .*{message}"
    ):
        gated = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).eval()
    assert set(gated.frozen) == {axis}
    set_gates(gated)
    small = gated.shrink()
    assert len(small.certificate.kept[axis]) == gated.pruner.sizes[axis]
    assert_same(small(X_IN), gated(X_IN), small.certificate)
    asked = l0gate.gate(model, example_inputs=X_IN, strength=1e-3, freeze=[axis], strict=True)
    assert asked.frozen == {axis: "named in `freeze`"}
    if name == "seen":  # nothing is wrong with that
        assert l0gate.gate(model, example_inputs=X_IN, strength=1e-3, strict=True).frozen
        return
    with pytest.raises(L0GateError, match=rf"(?s){message}.*`?freeze="):
        l0gate.gate(model, example_inputs=X_IN, strength=1e-3, strict=True)


def test_a_cell_of_the_users_own_is_named() -> None:
    class Own(nn.RNNCellBase):
        def __init__(self) -> None:
            super().__init__(X, H, True, 1)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            read = F.linear(x, self.weight_ih, self.bias_ih)
            return torch.tanh(read + F.linear(h, self.weight_hh, self.bias_hh))

    def run(m: Any, x: Tensor) -> Any:
        y, h = m.table(x), m.out.weight.new_zeros(x.shape[1], H)
        for y_t in y:
            h = m.own(y_t, h)
        return m.out(h + hidden(m, x)[-1])

    model = shape(run, nn.GRU(X, H, 2), own=Own())
    message = r"module 'own' \(Own\) is not followed"
    with pytest.warns(UserWarning, match=message):
        gated = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).eval()
    assert set(gated.frozen) == {"x", "h1"}
    set_gates(gated)
    assert_same((small := gated.shrink())(X_IN), gated(X_IN), small.certificate)
    with pytest.raises(L0GateError, match=message):
        l0gate.gate(model, example_inputs=X_IN, strength=1e-3, strict=True)
