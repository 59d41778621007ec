"""Moments gathered at the readers of a model, against what a run step by step reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import l0gate
from l0gate import Layout
from l0gate.backends._torch.gating.moments import gather_moments
from l0gate.backends._torch.pytree import as_inputs, named_tensors
from l0gate.backends._torch.tracing.derive import derive

TORCH = l0gate.get_backend("torch")


def gathered(model: nn.Module, *batches: Any, layout: Layout | None = None) -> Any:
    model = model.double()
    inputs = [as_inputs(batch) for batch in batches]
    layout = layout or derive(model, inputs[0]).layout
    return gather_moments(model, named_tensors(model), layout, TORCH, inputs)


def sums_of(h: torch.Tensor) -> np.ndarray:
    rows = h.detach().reshape(-1, h.shape[-1])
    ones = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).numpy()
    return ones.T @ ones


def near(found: np.ndarray, h: torch.Tensor) -> None:
    np.testing.assert_allclose(found, sums_of(h), rtol=1e-9, atol=1e-10)


class Stack(nn.Module):
    """A recurrent stack that may be packed, below a linear layer."""

    def __init__(self, cell: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = cell(3, 5, num_layers=2, **options)
        width = (options.get("proj_size") or 5) * (2 if options.get("bidirectional") else 1)
        self.out = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor, state: Any = None, lengths: Any = None) -> torch.Tensor:
        if lengths is None:
            return self.out(self.rnn(x, state)[0])
        first = self.rnn.batch_first
        packed = pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        return self.out(self.rnn(packed, state)[0].data)


def by_cells(
    model: Stack, x: torch.Tensor, state: Any, lengths: list[int], reverse: bool, end: str
) -> tuple[list[Any], list[Any], torch.Tensor]:
    """One layer and direction, sequence by sequence and step by step: what weight_ih and weight_hh
    read, what a projection reads, and the outputs."""
    rnn = model.rnn
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    w_ih, w_hh, b_ih, b_hh = (getattr(rnn, f"{name}_{end}") for name in names)
    kind = rnn.mode.lower()
    before, hidden, y = [], [], torch.zeros(*x.shape[:2], w_hh.shape[1], dtype=x.dtype)
    for b, length in enumerate(lengths):
        h = [s[b : b + 1] for s in state]
        for t in reversed(range(length)) if reverse else range(length):
            before.append(h[0])
            if kind == "lstm":
                if rnn.proj_size:
                    gates = x[t, b : b + 1] @ w_ih.T + b_ih + h[0] @ w_hh.T + b_hh
                    i, f, g, o = gates.chunk(4, -1)
                    c = f.sigmoid() * h[1] + i.sigmoid() * g.tanh()
                    full = o.sigmoid() * c.tanh()
                    hidden.append(full)
                    h = [full @ getattr(rnn, f"weight_hr_{end}").T, c]
                else:
                    h = list(torch.lstm_cell(x[t, b : b + 1], h, w_ih, w_hh, b_ih, b_hh))
            else:
                cell = {"gru": torch.gru_cell, "rnn_tanh": torch.rnn_tanh_cell}[kind]
                h = [cell(x[t, b : b + 1], h[0], w_ih, w_hh, b_ih, b_hh)]
            y[t, b] = h[0][0]
    return before, hidden, y


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (nn.LSTM, {}),
        (nn.LSTM, {"bidirectional": True, "batch_first": True}),
        (nn.LSTM, {"proj_size": 3, "bidirectional": True}),
        (nn.GRU, {"bidirectional": True}),
        (nn.RNN, {"batch_first": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_recurrent_stacks_as_if_run_step_by_step(
    cell: type[nn.RNNBase], options: dict[str, Any], packed: bool
) -> None:
    torch.manual_seed(0)
    model = Stack(cell, **options).double()
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    directions = 2 if options.get("bidirectional") else 1
    sizes = [options.get("proj_size") or 5] + ([5] if cell is nn.LSTM else [])
    state = tuple(torch.randn(2 * directions, 3, n, dtype=torch.float64) for n in sizes)
    lengths = [2, 4, 3] if packed else [4, 4, 4]
    given = x.transpose(0, 1) if options.get("batch_first") else x
    batch = {"x": given, "state": state if cell is nn.LSTM else state[0]}
    if packed:
        batch["lengths"] = torch.tensor(lengths)
    found = gathered(model, batch)
    valid = [(t, b) for b, length in enumerate(lengths) for t in range(length)]
    read = x
    for layer in range(2):
        outputs = []
        for d in range(directions):
            end = f"l{layer}" + ("_reverse" if d else "")
            own = [s[layer * directions + d] for s in state]
            before, hidden, y = by_cells(model, read, own, lengths, bool(d), end)
            letter = "fb"[d] if directions == 2 else "h"
            fed_back = letter
            if hidden:
                fed_back = "p" if letter == "h" else f"{letter}p"
                near(found[f"{letter}{layer}", f"rnn.weight_hr_{end}"], torch.cat(hidden))
            near(found[f"{fed_back}{layer}", f"rnn.weight_hh_{end}"], torch.cat(before))
            outputs.append(y)
            reader = "rnn.weight_ih_l1" if layer == 0 else "out.weight"
            values = torch.stack([y[t, b] for t, b in valid])
            near(found[f"{fed_back}{layer}", reader], values)
        read = torch.cat(outputs, -1)


class Residual(nn.Module):
    """An embedding, cells in a loop, a residual sum, a convolution and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.cell = nn.LSTMCell(4, 4)
        self.convolution = nn.Conv1d(4, 6, 3, padding=1)
        self.rnn = nn.GRU(6, 5)
        self.product = nn.Parameter(torch.randn(5, 2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x, h, c, outputs = self.embedding(tokens), None, None, []
        for step in x:
            h, c = self.cell(step, None if h is None else (h, c))
            outputs.append(h)
        summed = x + torch.stack(outputs)
        self.seen = x, torch.stack(outputs), summed
        wide = self.convolution(summed.permute(1, 2, 0)).permute(2, 0, 1)
        y = self.rnn(wide)[0]
        self.last = wide, y
        return y @ self.product


def test_cells_residual_sums_convolutions_and_products() -> None:
    torch.manual_seed(0)
    model, tokens = Residual().double(), torch.randint(7, (5, 3))
    found = gathered(model, tokens)
    model.eval()(tokens)
    (x, h, summed), (wide, y) = model.seen, model.last
    axes = {name: axis for axis, name in found}
    near(found[axes["cell.weight_ih"], "cell.weight_ih"], x)
    before = torch.cat([torch.zeros(1, 3, 4, dtype=torch.float64), h[:-1]])
    near(found[axes["cell.weight_hh"], "cell.weight_hh"], before)
    near(found[axes["convolution.weight"], "convolution.weight"], summed)
    near(found[axes["rnn.weight_ih_l0"], "rnn.weight_ih_l0"], wide)
    near(found[axes["product"], "product"], y)


def test_streamed_batches_give_the_moments_of_one_batch() -> None:
    torch.manual_seed(0)
    model, x = Stack(nn.GRU).double(), torch.randn(4, 6, 3, dtype=torch.float64)
    at_once = gathered(model, x)
    streamed = gathered(model, *x.split([1, 2, 3], dim=1))
    assert set(at_once) == set(streamed)
    for key, value in at_once.items():
        np.testing.assert_allclose(streamed[key], value, rtol=1e-10, atol=1e-12)


def test_the_model_and_its_mode_are_left_as_they_were() -> None:
    model, x = Stack(nn.LSTM, dropout=0.5).double(), torch.randn(4, 2, 3, dtype=torch.float64)
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    first, second = gathered(model, x), gathered(model, x)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
