"""What the certificate compares, and in which dtype."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import Language, gated_language, set_gates

from l0gate import L0GateError, Layout
from l0gate.backends._torch.pytree import named_tensors
from l0gate.backends._torch.recurrent_axes import recurrent_axes
from l0gate.backends._torch.shrinking.certify import InOneDtype, Runner


def test_code_that_makes_floats_of_its_own_is_certified_in_float64() -> None:
    class Own(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            zeros = torch.zeros(2, x.shape[1], 8, dtype=torch.float32)
            y, _ = self.rnn(self.embedding(x).float(), (zeros, torch.zeros_like(zeros)))
            return self.decoder(y)

    set_gates(gated := gated_language(model=Own()))
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def run(model: nn.Module, dtype: torch.dtype, *args: Tensor, hint: str = "") -> Any:
    layout = Layout.gru(1, embedding=None, decoder=None, name="rnn")
    given = {name: tensor.to(dtype) for name, tensor in named_tensors(model).items()}
    return Runner(model, recurrent_axes(model, layout), hint)(given, (args, {}))


class Counts(nn.Module):
    """Returns more than its outputs, and changes a buffer in every call."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.rnn, self.fail = nn.GRU(3, 4), fail
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        y, h = self.rnn(x)
        if self.fail:
            raise RuntimeError("broken")
        return {"y": y, "best": y.argmax(-1), "calls": self.calls, "state": h}


class StatesAlone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor) -> Any:
        return self.rnn(x)[1]


def test_states_are_apart_from_outputs() -> None:
    x = torch.randn(5, 2, 3)
    for dtype in (torch.float64, torch.float32):
        outputs, states = run(Counts(), dtype, x)
        assert [tuple(t.shape) for t in outputs] == [(5, 2, 4), (5, 2), (1,)]
        assert {t.dtype for t in outputs} == {dtype}
        assert [tuple(t.shape) for t in states["h0"]] == [(2, 4)]
        # Choices are compared in float64 alone.
        assert bool(outputs[1].any()) == (dtype == torch.float64)
    outputs, states = run(StatesAlone(), torch.float64, x)
    assert [tuple(t.shape) for t in (*outputs, *states["h0"])] == [(1, 2, 4), (2, 4)]


def test_one_run_leaves_nothing_to_the_next() -> None:
    model, x = Counts(), torch.randn(5, 2, 3)
    runner = Runner(model, {})
    given = named_tensors(model)
    first, second = (runner(given, ((x,), {}))[0] for _ in range(2))
    assert first[2].item() == second[2].item() == 1
    assert model.calls.item() == 0


def test_a_model_that_fails_is_named_with_the_hint() -> None:
    with pytest.raises(
        L0GateError, match=r"Counts fails in torch\.float64, as said: Run.*: broken"
    ):
        run(Counts(fail=True), torch.float64, torch.randn(5, 2, 3), hint=", as said")


def test_dtypes_in_the_code_give_way() -> None:
    x = torch.ones(2)
    with InOneDtype(torch.float64):
        assert x.half().dtype == x.to(torch.bfloat16).dtype == torch.float64
        assert torch.zeros(2, dtype=torch.float32).dtype == torch.float64
        assert torch.zeros(2, dtype=torch.int64).dtype == torch.int64
