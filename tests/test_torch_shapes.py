"""Models of many shapes: gated, shrunk, saved and loaded, they compute what the gated one does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch_models import set_gates, tokens

import l0gate
from l0gate import Budget, L0GateError, Layout
from l0gate.backends._torch_tree import tensors

pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:these neurons stay whole:UserWarning"),
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


# By name: how the model is made, what it is called with, and the axes expected to stay whole.
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


@pytest.mark.parametrize("name", SHAPES)
def test_small_equals_gated_and_survives_its_file(name: str, tmp_path: Path) -> None:
    build, inputs, whole = SHAPES[name]
    torch.manual_seed(0)
    gated = l0gate.gate(build(), example_inputs=inputs, strength=1e-3).eval()
    assert set(gated.frozen) == set(gated.pruner.freeze) == whole
    assert {axis for axis in gated.layout.axes if axis.startswith("h")} or "f0" in gated.layout.axes
    for equal, kind in ((False, "random"), (True, "random"), (False, "soft"), (True, "closed")):
        set_gates(gated, kind, seed=1)
        small = gated.shrink(equal=equal)
        assert all(len(small.certificate.kept[axis]) == gated.pruner.sizes[axis] for axis in whole)
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


@pytest.mark.parametrize("name", ["LSTM", "projection", "tied embedding", "residual", "pooling"])
def test_a_derived_layout_can_be_printed_edited_and_given(name: str) -> None:
    build, inputs, _ = SHAPES[name]
    torch.manual_seed(0)
    model = build()
    derived = l0gate.gate(model, example_inputs=inputs, strength=1e-3)
    set_gates(derived)
    expected = derived.shrink()
    for layout in (derived.layout, Layout(derived.layout.to_dict())):
        given_layout = l0gate.gate(model, layout=layout, example_inputs=inputs, strength=1e-3)
        set_gates(given_layout)
        small = given_layout.shrink()
        assert small.state_dict().keys() == expected.state_dict().keys()
        for key, value in small.state_dict().items():
            assert torch.equal(value, expected.state_dict()[key])


def test_a_derived_layout_without_one_axis() -> None:
    model = SHAPES["LSTM"][0]()
    derived = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).layout.to_dict()
    edited = {name: str(text).replace("x", "_") for name, text in derived.items()}
    gated = l0gate.gate(model, layout=Layout(edited), example_inputs=X_IN, strength=1e-3).eval()
    assert gated.layout.axes == ("h0",)
    set_gates(gated)
    small = gated.shrink()
    assert small.table.embedding_dim == X
    assert_same(small(X_IN), gated(X_IN), small.certificate)


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


def test_projections_keep_room_for_torch() -> None:
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


# What stays whole -----------------------------------------------------------------------------


def grouped(m: Any, x: Tensor) -> Any:
    return m.out(m.conv(hidden(m, x).permute(1, 2, 0)).mean(-1))


def met_later(m: Any, x: Tensor) -> Any:
    """Neurons that are needed whole become those of the recurrent layer afterwards."""
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
        r"the model's own forward \(Shape\) reads it in softmax along the neurons' own dimension",
    ),
    "neurons that meet others": (
        lambda: shape(met_later, nn.GRU(X, H, 2), lift=lift(H, X)),
        "h1",
        "reads it in softmax along the neurons' own dimension",
    ),
    "average over neurons": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x) - hidden(m, x).mean(2, keepdim=True)), nn.GRU(X, H, 2)
        ),
        "h1",
        "reads it in mean along the neurons' own dimension",
    ),
    "layer norm": (
        SHAPES["layer norm"][0],
        "h1",
        r"module 'norm' \(LayerNorm\) reads it in layer_norm, a norm over all neurons",
    ),
    "channels in groups": (
        lambda: shape(grouped, nn.GRU(X, H, 2), conv=nn.Conv1d(H, H, 2, groups=2)),
        "h1",
        r"module 'conv' \(Conv1d\) reads it in conv1d with groups=2, which takes neurons by",
    ),
    "sum over neurons": (
        lambda: shape(lambda m, x: m.out(hidden(m, x) + hidden(m, x).sum()), nn.GRU(X, H, 2)),
        "h1",
        "reads it in sum over all dimensions, its own among them",
    ),
    "summed by einsum": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x)) * torch.einsum("tbh->tb", hidden(m, x))[..., None],
            nn.GRU(X, H, 2),
        ),
        "h1",
        "reads it in einsum, which sums over its neurons",
    ),
    "dot products": (
        lambda: shape(related, nn.GRU(X, H, 2)),
        "h1",
        "reads it in matmul, a dot product over neurons",
    ),
    "an index of its own for each": (
        lambda: shape(
            lambda m, x: m.out(hidden(m, x).gather(0, torch.arange(H).expand(1, 3, H) % 5)[0]),
            nn.GRU(X, H, 2),
        ),
        "h1",
        "reads it in gather, whose index differs from neuron to neuron",
    ),
    "statistics of the batch": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x)[-1])),
            nn.GRU(X, H, 2),
            norm=nn.BatchNorm1d(H, track_running_stats=False),
        ),
        "h1",
        r"module 'norm' \(BatchNorm1d\) keeps no running statistics, so it depends on the batch",
    ),
    "a norm over time": (
        lambda: shape(
            lambda m, x: m.out(m.norm(hidden(m, x).transpose(0, 1))),
            nn.GRU(X, H, 2),
            norm=nn.BatchNorm1d(STEPS),
        ),
        "h1",
        r"module 'norm' \(BatchNorm1d\) reads it in batch_norm over another dimension",
    ),
    "a slope for each": (
        lambda: shape(
            lambda m, x: m.out(m.slope(hidden(m, x)[-1])), nn.GRU(X, H, 2), slope=nn.PReLU(H)
        ),
        "h1",
        r"module 'slope' \(PReLU\) reads it in prelu with a slope for each channel",
    ),
    "a buffer that is not saved": (
        lambda: shape(
            lambda m, x: m.out(m.offset(hidden(m, x))),
            nn.GRU(X, H, 2),
            offset=Offset(persistent=False),
        ),
        "h1",
        r"module 'offset' \(Offset\) reads it in add, where it meets a tensor of full width",
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
    "seen": (SHAPES["output seen"][0], "h1", "the caller sees it in an output"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_stays_whole_is_named_with_its_reason(name: str) -> None:
    build, axis, message = REASONS[name]
    model = build()
    with pytest.warns(UserWarning, match=rf"(?s)stay whole:.*axis '{axis}': .*{message}"):
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


@pytest.mark.filterwarnings("ignore:.*jit.script. is deprecated:DeprecationWarning")
def test_compiled_code_that_cannot_be_looked_into() -> None:
    script = torch.jit.script(nn.Linear(H, H))
    model = shape(lambda m, x: m.out(m.script(hidden(m, x))), nn.GRU(X, H, 2), script=script)
    with pytest.warns(UserWarning, match=r"axis 'h1': tried on random gates, it cannot be shrunk"):
        gated = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).eval()
    assert set(gated.frozen) == {"h1"}
    set_gates(gated)
    assert_same((small := gated.shrink())(X_IN), gated(X_IN), small.certificate)


def test_a_model_that_would_keep_everything_is_refused() -> None:
    with pytest.raises(
        L0GateError, match=r"(?s)no neuron of the model can go.*axis 'h0': the caller sees it in"
    ):
        l0gate.gate(nn.GRU(3, 4), example_inputs=torch.zeros(5, 2, 3), strength=1e-3)


# At random ------------------------------------------------------------------------------------


class Composed(nn.Module):
    """A random model: a front, recurrent blocks that pass features on, a way to pool, a head."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan
        size = plan["size"]
        self.front: nn.Module = {
            "embedding": lambda: nn.Embedding(WORDS, size),
            "linear": lambda: nn.Linear(X, size),
            "conv": lambda: nn.Conv1d(X, size, 3, padding=1),
        }[plan["front"]]()
        self.blocks = nn.ModuleList()
        self.joins: list[str] = []
        parts = [size]  # the axes side by side
        for block in plan["blocks"]:
            self.blocks.append(self._block(block, sum(parts)))
            own = self._parts(block)
            fits = block["join"] == "cat" or own == parts
            self.joins.append(block["join"] if fits else "none")
            parts = parts + own if block["join"] == "cat" else own
        width = sum(parts)
        self.norm = nn.BatchNorm1d(width) if plan["norm"] else None
        self.score = nn.Linear(width, 1) if plan["pool"] == "attention" else None
        self.out = nn.Linear(width, 3)

    def _block(self, block: dict[str, Any], width: int) -> nn.Module:
        kind, options = block["kind"], dict(block["options"])
        if kind.endswith("Cell"):
            return getattr(nn, kind)(width, self.plan["size"])
        return getattr(nn, kind)(width, self.plan["size"], **options)

    def _parts(self, block: dict[str, Any]) -> list[int]:
        options = block["options"]
        own: int = options.get("proj_size", 0) or self.plan["size"]
        return [own] * (1 + options.get("bidirectional", False))

    def forward(self, x: Tensor) -> Tensor:
        if self.plan["front"] == "conv":
            y = F.relu(self.front(x.permute(1, 2, 0))).permute(2, 0, 1)
        else:
            y = self.front(x)
        for block, join, module in zip(self.plan["blocks"], self.joins, self.blocks, strict=True):
            y = self._joined(join, y, self._run(module, y))
            y = getattr(F, block["activation"])(F.dropout(y, 0.1, self.training))
        if self.norm is not None:
            y = self.norm(y.permute(1, 2, 0)).permute(2, 0, 1)
        pool = self.plan["pool"]
        if pool == "attention":
            y = (torch.softmax(self.score(y), 0) * y).sum(0)
        elif pool != "none":
            y = {"last": lambda: y[-1], "mean": lambda: y.mean(0), "max": lambda: y.amax(0)}[pool]()
        return self.out(y)

    def _run(self, module: nn.Module, y: Tensor) -> Tensor:
        if not isinstance(module, nn.RNNCellBase):
            return module(y)[0]
        state, outputs = None, []
        for y_t in y:
            state = module(y_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)

    @staticmethod
    def _joined(join: str, before: Tensor, after: Tensor) -> Tensor:
        if join == "cat":
            return torch.cat([before, after], dim=-1)
        if join == "add":
            return before + after
        return before * after if join == "mul" else after


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.integers(3, 6))
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["RNN", "LSTM", "GRU", "LSTMCell", "GRUCell", "RNNCell"]))
        options: dict[str, Any] = {}
        if not kind.endswith("Cell"):
            options = {"num_layers": draw(st.integers(1, 2)), "bidirectional": draw(st.booleans())}
        if kind == "LSTM" and draw(st.booleans()):
            options["proj_size"] = draw(st.integers(1, size - 1))
        join = draw(st.sampled_from(["none", "add", "mul", "cat"]))
        activation = draw(st.sampled_from(["tanh", "sigmoid", "silu"]))
        blocks.append({"kind": kind, "options": options, "join": join, "activation": activation})
    return {
        "size": size,
        "front": draw(st.sampled_from(["embedding", "linear", "conv"])),
        "blocks": blocks,
        "norm": draw(st.booleans()),
        "pool": draw(st.sampled_from(["none", "last", "mean", "max", "attention"])),
        "seed": draw(st.integers(0, 99)),
        "gates": draw(st.sampled_from(["random", "soft", "open", "closed"])),
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("composed") / "small.npz"


@given(plans(), st.booleans())
def test_random_compositions_of_blocks(file: Path, plan: dict[str, Any], equal: bool) -> None:
    torch.manual_seed(plan["seed"])
    model = Composed(plan).double().eval()
    if model.norm is not None:
        model.norm.running_mean.normal_()
    x = X_IN if plan["front"] == "embedding" else FLOATS.view(STEPS, BATCH, X)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="these neurons stay whole")
        gated = l0gate.gate(model, example_inputs=x, strength=1e-3).eval()
    assert gated.frozen == {}
    set_gates(gated, plan["gates"], plan["seed"])
    small = gated.shrink(equal=equal)
    assert_same(small(x), gated(x), small.certificate)
    l0gate.save(file, small)
    loaded = l0gate.load(file, into=lambda: Composed(plan).double()).eval()
    assert torch.equal(loaded(x), small(x))


class Frontend(nn.Module):
    """Most of its parameters stand before anything that gates can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Conv2d(1, 16, 5, padding=2)
        self.mix = nn.MultiheadAttention(16, 4, batch_first=True)
        self.rnn = nn.GRU(16, 8, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        y = self.images(x.unsqueeze(1)).mean(-1).transpose(1, 2)
        return self.out(self.rnn(self.mix(y, y, y)[0])[0][:, -1])


def test_what_the_budget_does_not_count_is_named() -> None:
    model, x = Frontend(), torch.randn(4, 8, 12)
    outside = sum(p.numel() for part in (model.images, model.mix) for p in part.parameters())
    total = sum(p.numel() for p in model.parameters())
    said = f"{outside:,} of the model's {total:,} parameters, which the budget does not count"
    with pytest.warns(UserWarning, match=said) as caught:
        gated = l0gate.gate(model, example_inputs=x, budget=Budget(parameters=0.5))
    assert str(caught[0].message).count("images, mix, mix.out_proj") == 1
    assert f"The whole model goes from {total:,} parameters" in str(l0gate.report(gated))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(3, 6)
        self.rnn = nn.GRU(6, 16, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.norm(self.rnn(self.lift(x))[0][:, -1]))


def test_a_budget_out_of_reach_names_what_stays_whole() -> None:
    x = torch.randn(2, 5, 3)
    with pytest.raises(L0GateError, match=r"the least is \d+ \(\d") as error:
        l0gate.gate(Normed(), example_inputs=x, budget=Budget(parameters=0.05))
    assert "'h0', which stay whole" in str(error.value)
    assert "these neurons stay whole:\n  axis 'h0': module 'norm' (LayerNorm)" in str(error.value)
