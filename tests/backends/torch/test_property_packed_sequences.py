"""Torch models that read sequences of different lengths: gated, shrunk, saved, and in NumPy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import gate_kinds
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_models import Language, assert_close, set_gates, tokens

import l0gate

WORDS, EMBEDDED, HIDDEN = 6, 3, 4
# Float32 sums of another order differ relative to their terms, as the certificate allows.
TOLERANCES = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-12},
}

pytestmark = pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning")


class Tagger(nn.Module):
    """Packed sequences in, one score per step out."""

    def __init__(self, cell: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, EMBEDDED)
        self.rnn = cell(EMBEDDED, HIDDEN, **options)
        self.decoder = nn.Linear(HIDDEN * (1 + self.rnn.bidirectional), 2)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        first = self.rnn.batch_first
        packed = pack_padded_sequence(
            self.embedding(x), lengths, batch_first=first, enforce_sorted=False
        )
        y, last = self.rnn(packed)
        return self.decoder(pad_packed_sequence(y, batch_first=first)[0]), last


@st.composite
def taggers(draw: st.DrawFn) -> tuple[Tagger, tuple[Tensor, Tensor]]:
    """A model of any recurrent kind, and a batch of 1 to 4 sequences of 1 to 5 steps."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    model = Tagger(
        draw(st.sampled_from([nn.LSTM, nn.GRU])),
        num_layers=draw(st.integers(1, 4)),
        bidirectional=draw(st.booleans()),
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
    ).to(draw(st.sampled_from(sorted(TOLERANCES, key=str))))
    lengths = torch.tensor(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    x = torch.randint(WORDS, (int(lengths.max()), len(lengths)))
    return model.eval(), (x.T.contiguous() if model.rnn.batch_first else x, lengths)


@given(taggers(), gate_kinds, st.integers(0, 99))
def test_sequences_of_their_own_lengths(
    case: tuple[Tagger, tuple[Tensor, Tensor]], kind: str, seed: int
) -> None:
    model, inputs = case
    gated = l0gate.gate(model, example_inputs=inputs, strength=1e-3)
    set_gates(gated, kind, seed)
    small = gated.shrink()
    close = TOLERANCES[model.decoder.weight.dtype]
    with torch.no_grad():
        y = gated.eval()(*inputs)[0]
        found, last = small(*inputs)
    torch.testing.assert_close(found, y, **close)
    with tempfile.TemporaryDirectory() as folder:
        l0gate.save(Path(folder, "small.npz"), small)
        again = l0gate.load(Path(folder, "small.npz"), into=model)
        assert_close(again.eval()(*inputs)[0], found)
    # The reference runs the same chain with `lengths` in place of packing.
    layers: list[dict[str, Any]] = [
        {"type": "embedding", "name": "embedding"},
        {
            "type": type(model.rnn).__name__.lower(),
            "name": "rnn",
            "num_layers": model.rnn.num_layers,
            "bidirectional": model.rnn.bidirectional,
            "bias": model.rnn.bias,
        },
        {"type": "linear", "name": "decoder"},
    ]
    net = l0gate.get_backend("numpy").net(layers, model.rnn.batch_first)
    parameters = dict(l0gate.get_backend(small).describe(small).parameters)
    expected, states = net.apply(parameters, inputs[0].numpy(), lengths=inputs[1].numpy())
    np.testing.assert_allclose(found, expected, **close)
    parts = last if model.rnn.mode == "LSTM" else (last,)
    for i, state in enumerate(states):
        for part, array in zip(parts, state if isinstance(state, tuple) else (state,), strict=True):
            np.testing.assert_allclose(part[i], array, **close)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (4, 0)])
def test_one_step_one_sequence_or_none(cell: type[nn.Module], shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gated = l0gate.gate(Language(cell), example_inputs=tokens(), strength=1e-3)
    set_gates(gated)
    small, x = gated.shrink(), tokens(*shape)
    y, last = gated.eval()(x)
    found, small_last = small(x)
    assert found.shape == (*shape, 11)
    torch.testing.assert_close(found, y, **TOLERANCES[torch.float32])
    kept = [small.certificate.kept[axis] for axis in ("h0", "h1")]
    parts, small_parts = (s if cell is nn.LSTM else (s,) for s in (last, small_last))
    for part, small_part in zip(parts, small_parts, strict=True):
        for layer, state, index in zip(part, small_part, kept, strict=True):
            torch.testing.assert_close(state, layer[:, index], **TOLERANCES[torch.float32])
