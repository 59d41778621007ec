"""Torch's own tools take small models: those with states, ragged ones, those of equal sizes."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates

import l0gate
from l0gate.backends import RaggedRNN

pytestmark = pytest.mark.filterwarnings("ignore::Warning:torch.*", "ignore:.*deprecat")
X, H = 6, 16


class WithStates(nn.Module):
    def __init__(self, cell: Any = nn.GRU, layers: int = 1) -> None:
        super().__init__()
        self.rnn = cell(X, H, layers, batch_first=True)
        self.out = nn.Linear(H, 3)

    def forward(self, x: Tensor, h: Any = None) -> Any:
        y, h = self.rnn(x, h)
        return self.out(y), h


class Without(WithStates):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return self.out(self.rnn(x)[0])


class Pair(WithStates):
    """Initial states as two arguments."""

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:  # type: ignore[override]
        return self.out(self.rnn(x, (h, c))[0])


class OneState(WithStates):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # type: ignore[override]
        return self.out(self.rnn(x, h)[0])


def small_of(model: nn.Module, inputs: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    gated = l0gate.gate(model, example_inputs=inputs, strength=1e-3, **options)
    set_gates(gated)
    small: nn.Module = gated.eval().shrink()
    return small.eval()


x, h = torch.randn(4, 7, X), torch.zeros(1, 4, H)
CASES: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "stateful": lambda: (small_of(WithStates(), x), (x,)),
    "dense states": lambda: (small_of(OneState(), (x, h)), (x, h)),
    "dense pairs": lambda: (small_of(Pair(nn.LSTM), (x, h, h)), (x, h, h)),
    "ragged": lambda: (small_of(Without(nn.LSTM, 2), x), (x,)),
    "ragged with states": lambda: (small_of(WithStates(nn.GRU, 2), x), (x,)),
    "equal": lambda: (small_of(WithStates(nn.GRU, 2), x, equal=True), (x,)),
}
everywhere = pytest.mark.parametrize("name", CASES)


def first(out: Any) -> Tensor:
    found: Tensor = out[0] if isinstance(out, tuple) else out
    return found


@everywhere
def test_dynamic_quantization(name: str) -> None:
    small, inputs = CASES[name]()
    kinds = {nn.GRU, nn.LSTM, nn.Linear}
    quantized = torch.ao.quantization.quantize_dynamic(small, kinds, dtype=torch.qint8)
    with torch.no_grad():
        y, expected = first(quantized(*inputs)), first(small(*inputs))
    assert not any(type(m) in kinds for m in quantized.modules())
    assert (y - expected).abs().max() < 0.1


@everywhere
def test_copies_and_pickles(name: str) -> None:
    small, inputs = CASES[name]()
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(first(other(*inputs)), first(small(*inputs)))
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert torch.equal(first(other(*inputs)), first(small(*inputs)))


@everywhere
def test_state_dict(name: str) -> None:
    small, inputs = CASES[name]()
    other = copy.deepcopy(small)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(small.state_dict())
    assert torch.equal(first(other(*inputs)), first(small(*inputs)))


@everywhere
def test_jit_trace(name: str) -> None:
    small, inputs = CASES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(small, inputs, check_trace=False)
    assert_close(first(traced(*inputs)), first(small(*inputs)))


@everywhere
def test_export(name: str) -> None:
    small, inputs = CASES[name]()
    exported = torch.export.export(small, inputs)
    assert_close(first(exported.module()(*inputs)), first(small(*inputs)))


@pytest.mark.parametrize("dynamo", [False, True])
@everywhere
def test_onnx(name: str, dynamo: bool, tmp_path: Path) -> None:
    small, inputs = CASES[name]()
    path = str(tmp_path / "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small, inputs, path, dynamo=dynamo, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    given = {n: t.numpy() for n, t in zip(names, inputs, strict=False)}
    y = session.run(None, given)[0]
    np.testing.assert_allclose(y, first(small(*inputs)).detach().numpy(), rtol=1e-4, atol=1e-5)


@everywhere
def test_data_parallel(name: str) -> None:
    """On one processor `nn.DataParallel` calls the module; its copies are made as for several."""
    small, inputs = CASES[name]()
    assert torch.equal(first(nn.DataParallel(small)(*inputs)), first(small(*inputs)))
    replica = small._replicate_for_data_parallel()
    assert torch.equal(first(replica(*inputs)), first(small(*inputs)))


def test_modules_without_states_are_left_without_hooks() -> None:
    small, _ = CASES["ragged"]()
    equal = small_of(Without(nn.GRU, 2), x, equal=True)
    assert isinstance(small.rnn, RaggedRNN)
    assert type(equal.rnn) is nn.GRU
    for model in (small, equal):
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
