"""Models of many shapes, with what they are called with and which of their axes are frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch_models import tokens

from l0gate.backends._torch.pytree import tensors

EXPECTED_WARNINGS = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:these parts of the model are frozen:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*with projections is not supported:UserWarning"),
]

Run = Callable[..., Any]
STEPS, BATCH, WORDS, X, H = 5, 3, 11, 6, 8


class Offset(nn.Module):
    """A buffer of full width."""

    def __init__(self, *, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("values", torch.linspace(0, 1, H), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.values


class Shape(nn.Module):
    """Modules by name, and a forward that is given as a function."""

    def __init__(self, run: Run, **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.table = nn.Embedding(WORDS, X)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def shape(run: Run, rnn: nn.Module | None = None, out: int = H, **modules: nn.Module) -> Shape:
    """A model of an embedding, a recurrent module and a head of `out` inputs, in float64."""
    if rnn is not None:
        modules["rnn"] = rnn
    if out:
        modules["out"] = nn.Linear(out, 4)
    return Shape(run, **modules).double().eval()


def plain(m: Any, x: Tensor) -> Any:
    y, state = m.rnn(m.table(x))
    return m.out(y), state


def hidden(m: Any, x: Tensor) -> Any:
    return m.rnn(m.table(x))[0]


def cells(m: Any, x: Tensor) -> Any:
    """Stacked cells in a loop, with zeros of the user's own at first."""
    states = [m.out.weight.new_zeros(x.shape[1], H) for _ in m.cells]
    if isinstance(m.cells[0], nn.LSTMCell):
        states = [(zeros, zeros) for zeros in states]
    outputs = []
    for x_t in m.table(x):
        step = x_t
        for i, cell in enumerate(m.cells):
            states[i] = cell(step, states[i])
            step = states[i][0] if isinstance(states[i], tuple) else states[i]
        outputs.append(step)
    return m.out(torch.stack(outputs)), states


def convolved(m: Any, x: Tensor) -> Any:
    y = m.norm(m.conv(m.table(x).permute(1, 2, 0))).relu()
    return m.out(m.rnn(m.pool(y).permute(2, 0, 1))[0])


def additive(m: Any, x: Tensor) -> Any:
    """Attention as most write it: scores through linear layers, softmax over time, a sum."""
    y = hidden(m, x).transpose(0, 1)
    weights = torch.softmax(m.score(torch.tanh(m.project(y))), dim=1)
    return m.out((weights * y).sum(1))


def dotted(m: Any, x: Tensor) -> Any:
    y = hidden(m, x).transpose(0, 1)
    scores = m.query(y) @ m.key(y).transpose(-2, -1) / 3.0
    return m.out(scores.softmax(-1) @ y)


def weighted_by_bmm(m: Any, x: Tensor) -> Any:
    y = hidden(m, x).transpose(0, 1)
    weights = F.softmax(m.score(y), dim=1)
    return m.out(torch.bmm(weights.transpose(1, 2), y).squeeze(1))


def ends_of_both_ways(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    half = y.shape[-1] // 2
    return m.out(torch.cat([y[-1, :, :half], y[0, ..., half:]], dim=-1))


def pieces_of_both_ways(m: Any, x: Tensor) -> Tensor:
    y, size = hidden(m, x), m.rnn.hidden_size
    one, other = y.split(size, dim=-1)
    product = y.narrow(-1, 0, size) * y.narrow(2, size, size)
    return m.out(torch.cat([one + other[:], product], dim=-1))


def beside_features(m: Any, x: Tensor) -> Tensor:
    wide = torch.cat([torch.ones(STEPS, BATCH, 3, dtype=torch.float64), hidden(m, x)], dim=-1)
    return wide[..., 3:] + wide[..., :3].sum(-1, keepdim=True)


def heads(m: Any, x: Tensor) -> Any:
    """Several weightings of the same neurons at once."""
    y = hidden(m, x)
    weights = m.project(y).softmax(0)
    return m.out(torch.einsum("tbk,tbh->bkh", weights, y).mean(1))


def heads_by_products(m: Any, x: Tensor) -> Any:
    """The same by matrix products, from either side."""
    y = hidden(m, x).transpose(0, 1)
    weights = m.project(y).softmax(1)
    left, right = weights.mT @ y, y.mT @ weights
    return m.out(left.mean(1) + right.mean(-1))


def translated(m: Any, source: Tensor, target: Tensor) -> Any:
    """An encoder and a decoder that starts from its state and attends to its outputs."""
    y, state = m.encoder(m.table(source))
    z, _ = m.decoder(m.table(target), state)
    scores = torch.einsum("sbk,tbk->bts", m.key(y), m.query(z))
    context = torch.einsum("bts,sbh->tbh", scores.softmax(-1), y)
    return m.out(torch.cat([z, context], dim=-1))


def packed(m: Any, x: Tensor, lengths: Tensor) -> Any:
    sequence = pack_padded_sequence(m.table(x), lengths, enforce_sorted=False)
    y, state = m.rnn(sequence)
    y, lengths = pad_packed_sequence(y)
    mask = torch.arange(len(y))[:, None] < lengths
    mean = (y * mask[..., None]).sum(0) / lengths[:, None]
    return m.out(mean), state


def gathered(m: Any, x: Tensor, lengths: Tensor) -> Any:
    y = hidden(m, x)
    index = (lengths - 1).view(1, -1, 1).expand(1, -1, y.size(2))
    return m.out(y.gather(0, index)[0])


def residual(m: Any, x: Tensor) -> Any:
    y = m.first(m.table(x))[0]
    for layer in m.more:
        y = y + layer(y)[0]
    return m.out(y)


def highway(m: Any, x: Tensor) -> Any:
    y = hidden(m, x)
    gate = torch.sigmoid(m.project(y))
    return m.out(gate * y + (1 - gate) * m.other(y))


def started(m: Any, x: Tensor, feature: Tensor) -> Any:
    """The initial state is computed from another input."""
    state = torch.tanh(m.start(feature))
    return m.out(m.rnn(m.table(x), state.unsqueeze(0))[0])


def pooled(m: Any, x: Tensor) -> Any:
    y = hidden(m, x).permute(1, 2, 0)
    parts = [y.mean(-1), y.amax(2), y.max(dim=-1).values, F.adaptive_max_pool1d(y, 1).squeeze(-1)]
    parts += [F.avg_pool1d(y, 2).sum(-1), F.max_pool1d(y, 2).mean(2), y.std(-1)]
    return m.out(torch.cat(parts, dim=1))


def over_time(m: Any, x: Tensor) -> Any:
    y = hidden(m, x)
    y = y.cumsum(0) + y.roll(1, 0) + y.repeat(2, 1, 1)[: len(y)] + y.flip(0)
    y = F.pad(y.permute(1, 2, 0), (1, 0))[..., :-1].movedim(-1, 0)
    return m.out(pad_sequence(list(y.unbind(1))) - y[:1].expand(len(y), -1, -1).tile(1, 1, 1))


def final(m: Any, x: Tensor) -> Any:
    state = m.rnn(m.table(x))[1]
    h = state[0] if isinstance(state, tuple) else state
    return m.out(h.permute(1, 0, 2).reshape(x.shape[1], -1))


def last_states(m: Any, x: Tensor) -> Any:
    h = m.rnn(m.table(x))[1]
    return m.out(torch.cat([h[-2], h[-1]], dim=-1))


def scaled(m: Any, x: Tensor) -> Any:
    return m.out(hidden(m, x) * m.gain.weight + m.shift.weight)


def own_matrix(m: Any, x: Tensor) -> Any:
    return F.gelu(hidden(m, x)) @ m.matrix.weight


def tied(m: Any, x: Tensor) -> Any:
    return F.linear(m.project(hidden(m, x)), m.table.weight)


def front(m: Any, x: Tensor) -> Any:
    return m.out(F.dropout(m.rnn(F.relu(m.front(x)))[0][:, -1], 0.4, m.training))


def seq2(m: Any, x: Tensor) -> Any:
    y, first = m.rnn(m.table(x))
    y, second = m.second(F.leaky_relu(y))
    return m.out(y), first, second


def states_in(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    y, state = m.rnn(m.table(x), (h, c))
    return m.out(y), state


def attended(m: Any, x: Tensor) -> Any:
    y = hidden(m, x).transpose(0, 1)
    return m.out(F.scaled_dot_product_attention(m.query(y), m.key(y), y))


X_IN, LENGTHS = tokens(STEPS, BATCH, WORDS), torch.tensor([2, 5, 3])
FLOATS = torch.linspace(-1.0, 1.0, BATCH * STEPS * X, dtype=torch.float64).sin()


def lift(size: int = H, inputs: int = H) -> nn.Linear:
    return nn.Linear(inputs, size)


def more() -> dict[str, nn.Module]:
    return {"query": lift(4), "key": lift(4)}


def loop(*kinds: type[Any], **options: Any) -> nn.ModuleList:
    return nn.ModuleList(kind(H if i else X, H, **options) for i, kind in enumerate(kinds))


def seen_too(m: Any, x: Tensor) -> Any:
    y = hidden(m, x)
    return m.out(y), y


# By name: how the model is made, what it is called with, and the axes expected to be frozen.
SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], set[str]]] = {
    "LSTM": (lambda: shape(plain, nn.LSTM(X, H)), (X_IN,), set()),
    "three layers, no bias": (
        lambda: shape(plain, nn.LSTM(X, H, 3, bias=False, dropout=0.2)),
        (X_IN,),
        set(),
    ),
    "both ways": (
        lambda: shape(plain, nn.GRU(X, H, 2, bidirectional=True), 2 * H),
        (X_IN,),
        set(),
    ),
    "RNN": (lambda: shape(plain, nn.RNN(X, H, 2)), (X_IN,), set()),
    "RNN with relu": (
        lambda: shape(
            plain, nn.RNN(X, H, 2, nonlinearity="relu", bidirectional=True, batch_first=True), 2 * H
        ),
        (X_IN,),
        set(),
    ),
    "projection": (lambda: shape(plain, nn.LSTM(X, H, proj_size=3), 3), (X_IN,), set()),
    "projections both ways": (
        lambda: shape(plain, nn.LSTM(X, H, 2, bidirectional=True, proj_size=H - 1), 2 * H - 2),
        (X_IN,),
        set(),
    ),
    "LSTM cells": (lambda: shape(cells, cells=loop(nn.LSTMCell, nn.LSTMCell)), (X_IN,), set()),
    "GRU cell": (lambda: shape(cells, cells=loop(nn.GRUCell, bias=False)), (X_IN,), set()),
    "RNN cells": (lambda: shape(cells, cells=loop(nn.RNNCell, nn.RNNCell)), (X_IN,), set()),
    "RNN cell with relu": (
        lambda: shape(cells, cells=loop(nn.RNNCell, nonlinearity="relu")),
        (X_IN,),
        set(),
    ),
    "LSTM, then GRU": (
        lambda: shape(seq2, nn.LSTM(X, 7), second=nn.GRU(7, H, 2)),
        (X_IN,),
        set(),
    ),
    "linear front": (
        lambda: shape(front, nn.GRU(7, H, batch_first=True), front=lift(7, X)),
        (FLOATS.view(BATCH, STEPS, X),),
        set(),
    ),
    "convolution, norm and pool": (
        lambda: shape(
            convolved,
            nn.GRU(7, H, bidirectional=True),
            2 * H,
            conv=nn.Conv1d(X, 7, 3, padding=1),
            norm=nn.BatchNorm1d(7),
            pool=nn.MaxPool1d(2),
        ),
        (X_IN,),
        set(),
    ),
    "convolution reads": (
        lambda: shape(
            lambda m, x: m.conv(m.norm(hidden(m, x).permute(1, 2, 0))),
            nn.LSTM(X, H, 2),
            0,
            conv=nn.Conv1d(H, 4, 2, padding="same", padding_mode="replicate"),
            norm=nn.BatchNorm1d(H, affine=False),
        ),
        (X_IN,),
        set(),
    ),
    "norm of the last step": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x)[-1])), nn.GRU(X, H), norm=nn.BatchNorm1d(H)
        ),
        (X_IN,),
        set(),
    ),
    "pooling": (lambda: shape(pooled, nn.GRU(X, H), 7 * H), (X_IN,), set()),
    "over time": (lambda: shape(over_time, nn.GRU(X, H)), (X_IN,), set()),
    "packed, masked mean": (
        lambda: shape(packed, nn.LSTM(X, H, bidirectional=True), 2 * H),
        (X_IN, LENGTHS),
        set(),
    ),
    "last valid step": (lambda: shape(gathered, nn.GRU(X, H)), (X_IN, LENGTHS), set()),
    "final state": (lambda: shape(final, nn.LSTM(X, H)), (X_IN,), set()),
    "final states, merged": (
        lambda: shape(final, nn.GRU(X, H, 2, bidirectional=True), 4 * H),
        (X_IN,),
        set(),
    ),
    "final states of both ways": (
        lambda: shape(last_states, nn.GRU(X, H, 2, bidirectional=True), 2 * H),
        (X_IN,),
        set(),
    ),
    "states given": (
        lambda: shape(states_in, nn.LSTM(X, H, 2, proj_size=5), 5),
        (X_IN, torch.ones(2, BATCH, 5).double(), torch.ones(2, BATCH, H).double()),
        set(),
    ),
    "computed initial state": (
        lambda: shape(started, nn.GRU(X, H), start=lift(H, 3)),
        (X_IN, FLOATS[:9].view(BATCH, 3)),
        set(),
    ),
    "concatenation": (
        lambda: shape(
            lambda m, x: m.out(torch.cat([e := m.table(x), m.rnn(e)[0]], -1)), nn.GRU(X, H), X + H
        ),
        (X_IN,),
        set(),
    ),
    "residual": (
        lambda: shape(
            residual, first=nn.LSTM(X, H), more=nn.ModuleList([nn.LSTM(H, H), nn.LSTM(H, H)])
        ),
        (X_IN,),
        set(),
    ),
    "highway": (
        lambda: shape(highway, nn.GRU(X, H), project=lift(), other=lift()),
        (X_IN,),
        set(),
    ),
    "gain and shift": (
        lambda: shape(scaled, nn.GRU(X, H), gain=nn.Embedding(1, H), shift=nn.Linear(H, 1)),
        (X_IN,),
        set(),
    ),
    "buffer": (
        lambda: shape(
            lambda m, x: m.out(m.offset(hidden(m, x))), nn.GRU(X, H), offset=Offset(persistent=True)
        ),
        (X_IN,),
        set(),
    ),
    "own matrix": (
        lambda: shape(own_matrix, nn.GRU(X, H, 2), 0, matrix=nn.Linear(4, H, bias=False)),
        (X_IN,),
        set(),
    ),
    "additive attention": (
        lambda: shape(additive, nn.LSTM(X, H), project=lift(5), score=lift(1, 5)),
        (X_IN,),
        set(),
    ),
    "attention by bmm": (
        lambda: shape(weighted_by_bmm, nn.LSTM(X, H), score=lift(1)),
        (X_IN,),
        set(),
    ),
    "dot product attention": (
        lambda: shape(dotted, nn.GRU(X, H), query=lift(4), key=lift(4)),
        (X_IN,),
        set(),
    ),
    "torch's own attention": (
        lambda: shape(attended, nn.GRU(X, H), query=lift(), key=lift()),
        (X_IN,),
        set(),
    ),
    "weightings by einsum": (
        lambda: shape(heads, nn.GRU(X, H), project=lift(3)),
        (X_IN,),
        set(),
    ),
    "weightings by products": (
        lambda: shape(heads_by_products, nn.GRU(X, H), project=lift(3)),
        (X_IN,),
        set(),
    ),
    "encoder and decoder": (
        lambda: shape(
            translated, None, 2 * H, encoder=nn.LSTM(X, H, 2), decoder=nn.LSTM(X, H, 2), **more()
        ),
        (X_IN, tokens(4, BATCH, WORDS, seed=1)),
        set(),
    ),
    "tied embedding": (
        lambda: shape(tied, nn.GRU(X, H), 0, project=lift(X)),
        (X_IN,),
        set(),
    ),
    "flattened": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x).transpose(0, 1).flatten(1)), nn.GRU(X, H), STEPS * H
        ),
        (X_IN,),
        set(),
    ),
    "both ways added": (
        lambda: shape(
            lambda m, x: m.out(sum(hidden(m, x).chunk(2, dim=-1))),
            nn.LSTM(X, H, 2, bidirectional=True),
        ),
        (X_IN,),
        set(),
    ),
    "both ways taken by hand": (
        lambda: shape(ends_of_both_ways, nn.LSTM(X, H, 2, bidirectional=True), 2 * H),
        (X_IN,),
        set(),
    ),
    "both ways by their size": (
        lambda: shape(pieces_of_both_ways, nn.GRU(X, H, bidirectional=True), 2 * H),
        (X_IN,),
        set(),
    ),
    "both ways in a dimension": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x).view(STEPS, BATCH, 2, -1).sum(2)),
            nn.LSTM(X, H, 2, bidirectional=True),
        ),
        (X_IN,),
        set(),
    ),
    "beside features": (
        lambda: shape(lambda m, x: m.out(beside_features(m, x)), nn.GRU(X, H)),
        (X_IN,),
        set(),
    ),
    "layer norm": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x))), nn.GRU(X, H, 2), norm=nn.LayerNorm(H)
        ),
        (X_IN,),
        {"h1"},
    ),
    "output seen": (lambda: shape(seen_too, nn.LSTM(X, H, 2)), (X_IN,), {"h1"}),
    "sorted neurons": (
        lambda: shape(lambda m, x: m.out(hidden(m, x).sort(-1).values), nn.GRU(X, H)),
        (X_IN,),
        {"h0"},
    ),
    "multi-head attention": (
        lambda: shape(
            lambda m, x: m.out(m.attend(y := hidden(m, x), y, y)[0]),
            nn.GRU(X, H, 2),
            attend=nn.MultiheadAttention(H, 2),
        ),
        (X_IN,),
        {"h1"},
    ),
}


def first(out: Any) -> Tensor:
    return next(tensors(out))


def assert_same(found: Any, expected: Any, certificate: Any) -> None:
    """To the certificate's tolerance, with all outputs that are no states."""
    pairs = list(zip(tensors(found), tensors(expected), strict=False))
    assert pairs
    for one, other in [pairs[0], *(p for p in pairs[1:] if p[0].shape == p[1].shape)]:
        assert one.shape == other.shape
        limit = certificate.tolerance * max(1.0, float(other.detach().abs().max()))
        assert float((one - other).detach().abs().max()) <= limit
