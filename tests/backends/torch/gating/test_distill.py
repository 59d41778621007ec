"""The original model as a teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch_loops import gated_model, step
from torch_models import Language, assert_close, autocast, set_gates, tokens

import l0gate
from l0gate import L0GateError, Layout


def test_the_original_model_teaches() -> None:
    model = Language(dropout=0.5)
    gated = gated_model(model, distill=True, warm_start=True)
    assert {name for name, _ in gated.named_parameters()} == {
        *(f"model.{name}" for name, _ in model.named_parameters()),
        *(f"gates.log_alpha_{axis}" for axis in gated.log_alpha),
    }
    assert not any("teacher" in name for name in gated.state_dict())
    teacher = copy.deepcopy(model).eval()
    x = tokens(seed=3)
    assert gated.eval().distill(x).item() < 1e-12  # kernels differ where gradients are asked for
    optimizer = torch.optim.SGD(gated.param_groups(lr=0.5))
    step(gated.train(), optimizer, 0.1)
    expected, y = teacher(x)[0], gated.eval()(x)[0]
    wanted = F.mse_loss(y, expected) / expected.var(correction=0)
    assert_close(gated.distill(x), wanted)  # the teacher has not moved, nor does dropout touch it
    outputs = gated(x)
    assert_close(gated.distill(x, outputs=outputs), wanted)
    gated.distill(x).backward()
    assert gated.log_alpha["h0"].grad.any()


def test_the_teacher_goes_where_the_model_goes() -> None:
    gated, x = gated_model(distill=True), tokens()
    set_gates(gated)
    expected = gated.eval().distill(x)
    assert expected > 0.01
    wide = copy.deepcopy(gated).double()
    assert wide.distill(x).dtype == torch.float64
    torch.testing.assert_close(wide.distill(x).float(), expected, rtol=1e-4, atol=1e-6)
    half = copy.deepcopy(gated).bfloat16()
    assert half(x)[0].dtype == torch.bfloat16
    # Eight bits of mantissa, in the outputs of both.
    torch.testing.assert_close(half.distill(x), expected, rtol=0.1, atol=0)
    with autocast():
        loss = gated.distill(x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.1, atol=0)


def test_distilling_logits() -> None:
    gated, x = gated_model(distill="kl"), tokens()
    set_gates(gated)
    ours, theirs = gated.eval()(x)[0].log_softmax(-1), gated.model(x)[0].log_softmax(-1)
    wanted = (theirs.exp() * (theirs - ours)).sum(-1).mean()
    assert_close(gated.distill(x), wanted)

    class Scalar(Language):
        def forward(self, x: Tensor, state: Any = None) -> Tensor:  # type: ignore[override]
            return super().forward(x, state)[0].mean((-1, -2), keepdim=True)

    scalar = gated_model(Scalar(), distill="kl")
    with pytest.raises(L0GateError, match=r"logits over the last dimension; .* shape \(5, 1, 1\)"):
        scalar.distill(x)


class Returns(Language):
    """Language that returns what a function makes of its logits, outputs and states."""

    def __init__(self, make: Callable[..., Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, states = self.rnn(self.embedding(x), state)
        return self.make(self.decoder(y), states)


def relative(found: Tensor, expected: Tensor) -> Tensor:
    return F.mse_loss(found, expected) / expected.var(correction=0)


def test_what_is_compared() -> None:
    x = tokens()
    cases: list[tuple[Callable[..., Any], Callable[[Any], list[Tensor]]]] = [
        (lambda y, s: (y, s), lambda out: [out[0]]),
        (lambda y, s: {"y": [y], "n": 3, "h": s[0][-1]}, lambda out: out["y"]),
        (lambda y, s: (y, y.sum(0)), lambda out: [out[0], out[1]]),
        (lambda y, s: s, lambda out: [out[0], out[1]]),  # nothing but states
        (lambda y, s: s[0][-1], lambda out: [out]),
        (
            lambda y, s: pack_padded_sequence(y, torch.tensor([5, 3, 2])),
            lambda out: [out.data],
        ),
    ]
    for make, compared in cases:
        torch.manual_seed(0)
        layout, whole = Layout.lstm(2), ["h0", "h1"]  # whose states the caller sees
        model = Returns(make)
        gated = l0gate.gate(model, layout=layout, strength=1e-3, distill=True, freeze=whole)
        keep_most(gated.eval())
        found, expected = compared(gated(x)), compared(gated.model(x))
        wanted = torch.stack([relative(*pair) for pair in zip(found, expected, strict=True)])
        assert bool((wanted > 0).all())
        assert_close(gated.distill(x), wanted.mean())


def keep_most(gated: Any) -> None:
    with torch.no_grad():
        for values in gated.log_alpha.values():
            values[:2] = -1.0


def test_packed_sequences_are_compared() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.decoder = nn.GRU(3, 8), nn.Linear(8, 2)

        def forward(self, x: PackedSequence) -> PackedSequence:
            y = self.rnn(x)[0]
            return y._replace(data=self.decoder(y.data))

    torch.manual_seed(0)
    x = pack_padded_sequence(torch.randn(5, 3, 3), torch.tensor([5, 3, 2]))
    gated = gated_model(Packed(), example_inputs=(x,), distill=True)
    set_gates(gated)
    found, expected = gated.eval()(x).data, gated.model(x).data
    assert_close(gated.distill(x), relative(found, expected))


def test_outputs_that_do_not_vary_have_a_loss() -> None:
    x = tokens()
    for make, scale in (
        (lambda y, s: y[0, 0, 0], lambda t: t.square()),
        (lambda y, s: y[0, 0, 0] * 0.0, lambda t: torch.tensor(1.0)),
    ):
        torch.manual_seed(0)
        gated = l0gate.gate(Returns(make), layout=Layout.lstm(2), strength=1e-3, distill=True)
        keep_most(gated.eval())
        found, expected = gated(x), gated.model(x)
        wanted = (found - expected).square() / scale(expected)
        assert_close(gated.distill(x), wanted)


def test_what_cannot_be_distilled() -> None:
    x = tokens()
    with pytest.raises(
        L0GateError, match=r"there is no teacher: gate the model with `distill=True"
    ):
        gated_model().distill(x)
    with pytest.raises(L0GateError, match=r"`distill` is 'mse'; it must be True, False or 'kl'"):
        gated_model(distill="mse")
    gated = gated_model(distill=True)
    with pytest.raises(
        L0GateError, match=r"`outputs` have the shapes \[\(4, 3, 11\), .*\(5, 3, 11"
    ):
        gated.distill(x, outputs=gated(x[:4]))

    class Choice(Language):
        def forward(self, x: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0].argmax(-1) + state

    gated = l0gate.gate(Choice(), layout=Layout.lstm(2), strength=1e-3, distill=True)
    with pytest.raises(
        L0GateError, match="compares floating point outputs; the model returns none"
    ):
        gated.distill(x, x)
