"""Small models accept states and inputs of the dense size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch_models import Plain, assert_close, keep_counts

import l0gate
from l0gate import Layout
from l0gate.backends._torch.shrinking.dense_adapters import ReduceInput, ReduceStates


def test_gated_inputs_are_still_given_in_full(tmp_path: Path) -> None:
    layout = Layout.lstm(2, embedding=None)
    gated = l0gate.gate(Plain(), layout=layout, strength=1e-3)
    keep_counts(gated, x=3, h0=5, h1=4)
    small = gated.shrink()
    assert small.rnn.input_size == 3
    x = torch.randn(5, 2, 4)
    assert_close(small(x), gated.eval()(x))
    assert_close(small(x[..., :3]), small(x))  # or the three that are read
    l0gate.save(tmp_path / "small.npz", small)
    y, _ = l0gate.load(tmp_path / "small.npz")(x.numpy())
    np.testing.assert_allclose(y, small(x).detach(), rtol=1e-4, atol=1e-6)
    assert_close(l0gate.load(tmp_path / "small.npz", into=Plain)(x), small(x))


KEPT = [(np.array([0, 3]), 4)]


def test_a_stock_module_takes_states_of_either_size() -> None:
    rnn = nn.LSTM(3, 2)
    rnn.register_forward_pre_hook(ReduceStates(KEPT, KEPT), with_kwargs=True)
    x, h, c = torch.randn(5, 2, 3), *torch.randn(2, 1, 2, 4)
    small = (h[..., [0, 3]].contiguous(), c[..., [0, 3]].contiguous())
    expected = rnn(x, small)
    for found in (rnn(x, (h, c)), rnn(x, hx=(h, c)), rnn(x, (h, small[1]))):
        assert_close(found[0], expected[0])
    assert_close(rnn(x)[0], rnn(x, (torch.zeros(1, 2, 4),) * 2)[0])


def test_a_cell_takes_states_of_either_size() -> None:
    x, h, c = torch.randn(2, 3), *torch.randn(2, 2, 4)
    gru, lstm = nn.GRUCell(3, 2), nn.LSTMCell(3, 2)
    gru.register_forward_pre_hook(ReduceStates(KEPT), with_kwargs=True)
    lstm.register_forward_pre_hook(ReduceStates(KEPT, KEPT), with_kwargs=True)
    assert_close(gru(x, h), gru(x, h[:, [0, 3]]))
    assert_close(lstm(x, (h, c)), lstm(x, (h[:, [0, 3]], c[:, [0, 3]])))


def test_a_reader_takes_features_of_either_size() -> None:
    linear, conv = nn.Linear(2, 3), nn.Conv1d(2, 3, 1)
    linear.register_forward_pre_hook(ReduceInput(np.array([0, 3]), 4))
    conv.register_forward_pre_hook(ReduceInput(np.array([0, 3]), 4, dim=-2))
    x = torch.randn(5, 4)
    assert_close(linear(x), linear(x[:, [0, 3]]))
    assert_close(conv(x.T[None]), conv(x.T[None, [0, 3]]))
