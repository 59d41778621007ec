"""`RaggedRNN` is called as the stock module, computes the same, and takes dense states."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch_models import assert_close

from l0gate import L0GateError
from l0gate.backends._torch.shrinking.ragged import CELLS, RaggedRNN

WIDTH, H, P = 3, 4, 2
pytestmark = pytest.mark.filterwarnings("ignore:.*with projections is not supported:UserWarning")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[nn.Module, RaggedRNN]:
    """A stock module, and a ragged one of the same sizes and weights."""
    mode = draw(st.sampled_from(list(CELLS)))
    options: dict[str, Any] = {
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    torch.manual_seed(draw(st.integers(0, 99)))
    count = options["num_layers"] * (1 + options["bidirectional"])
    own: dict[str, Any] = {}
    stocks: dict[str, Any] = {}
    if mode == "LSTM" and draw(st.booleans()):
        own["proj_sizes"], stocks["proj_size"] = [P] * count, P
    if mode == "RNN_RELU":
        stocks["nonlinearity"] = "relu"
    stock = CELLS[mode](WIDTH, H, **options, **stocks).double()
    ragged = RaggedRNN(mode, [H] * count, WIDTH, dtype=torch.float64, **options, **own)
    names = ragged.stock_names()
    ragged.load_state_dict({names[name]: value for name, value in stock.state_dict().items()})
    return stock, ragged


def states_for(rnn: Any, *shape: int, size: int = H) -> Any:
    count = rnn.num_layers * (1 + rnn.bidirectional)
    h, c = torch.randn(2, count, *shape, size, dtype=torch.float64)
    h = h[..., : rnn.output_sizes[0]] if rnn.output_sizes != rnn.hidden_sizes else h
    return (h, c) if rnn.mode == "LSTM" else h


def listed(state: Any) -> list[Any]:
    """One list of tensors from the states of either kind of module."""
    return [list(part) for part in (state if isinstance(state[0], tuple) else (state,))]


def assert_same(stock: nn.Module, ragged: RaggedRNN, x: Any, state: Any) -> None:
    y, last = stock(x, state)
    found, found_last = ragged(x, state)
    assert type(found) is type(y)
    assert_close(found, y)
    parts = last if isinstance(last, tuple) else (last,)
    found_parts = found_last if isinstance(last, tuple) else (found_last,)
    assert_close([torch.stack(part) for part in found_parts], list(parts))


@given(pairs(), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_it_computes_what_the_stock_module_does(
    pair: tuple[nn.Module, RaggedRNN], steps: int, batch: int, with_state: bool
) -> None:
    stock, ragged = pair
    shape = (batch, steps) if ragged.batch_first else (steps, batch)
    x = torch.randn(*shape, WIDTH, dtype=torch.float64)
    assert_same(stock, ragged, x, states_for(ragged, batch) if with_state else None)
    assert_same(stock, ragged, x[0], states_for(ragged) if with_state else None)  # unbatched


@given(pairs(), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_packed_sequences_run_to_their_own_ends(
    pair: tuple[nn.Module, RaggedRNN], lengths: list[int], with_state: bool
) -> None:
    stock, ragged = pair
    sequences = [torch.randn(n, WIDTH, dtype=torch.float64) for n in lengths]
    x = pack_sequence(sequences, enforce_sorted=False)
    assert isinstance(ragged(x)[0], PackedSequence)
    assert_same(stock, ragged, x, states_for(ragged, len(lengths)) if with_state else None)


@pytest.mark.parametrize("mode", list(CELLS))
def test_layers_and_directions_have_their_own_sizes(mode: str) -> None:
    rnn = RaggedRNN(mode, [2, 3, 5, 1], WIDTH, num_layers=2, bidirectional=True)
    y, last = rnn(torch.randn(6, 4, WIDTH))
    assert y.shape == (6, 4, 6)
    for part in listed(last):
        assert [tuple(state.shape) for state in part] == [(4, 2), (4, 3), (4, 5), (4, 1)]
    first, middle = rnn(torch.randn(6, 4, WIDTH))[1], torch.randn(3, 4, WIDTH)
    assert rnn(middle, first)[0].shape == (3, 4, 6)


@pytest.mark.parametrize("mode", list(CELLS))
def test_whole_equals_step_by_step(mode: str) -> None:
    rnn = RaggedRNN(mode, [2, 5], WIDTH, num_layers=2, dtype=torch.float64)
    x = torch.randn(6, 4, WIDTH, dtype=torch.float64)
    whole, last = rnn(x)
    state, outputs = None, []
    for x_t in x:
        y, state = rnn(x_t[None], state)
        outputs.append(y)
    assert_close(torch.cat(outputs), whole)
    assert_close(listed(state), listed(last))


@pytest.mark.parametrize("mode", list(CELLS))
def test_states_of_the_dense_size_are_reduced(mode: str) -> None:
    kept = [(np.array([0, 3]), H), (np.array([1, 2, 3]), H)]
    rnn = RaggedRNN(mode, [2, 3], WIDTH, num_layers=2, kept=kept, dtype=torch.float64)
    assert rnn.hidden_size == H
    dense = states_for(rnn, 5)
    parts = dense if mode == "LSTM" else (dense,)
    small = tuple(tuple(part[i][:, index] for i, (index, _) in enumerate(kept)) for part in parts)
    x = torch.randn(7, 5, WIDTH, dtype=torch.float64)
    expected = rnn(x, small if mode == "LSTM" else small[0])
    assert_close(list(rnn(x, dense)), list(expected))
    mixed = [(part[0], part_small[1]) for part, part_small in zip(parts, small, strict=True)]
    assert_close(list(rnn(x, tuple(mixed) if mode == "LSTM" else mixed[0])), list(expected))


def test_projected_states_of_the_dense_size_are_reduced() -> None:
    kept = [(np.array([0, 1]), 3), (np.array([2]), 3)]
    kept_cells = [(np.array([0, 1, 3]), H), (np.array([1, 2]), H)]
    rnn = RaggedRNN(
        *("LSTM", [3, 2], WIDTH),
        num_layers=2,
        proj_sizes=[2, 1],
        kept=kept,
        kept_cells=kept_cells,
        dtype=torch.float64,
    )
    assert rnn.hidden_size == H
    h, c = torch.randn(2, 5, 3).double(), torch.randn(2, 5, H).double()
    small = (
        tuple(h[i][:, index] for i, (index, _) in enumerate(kept)),
        tuple(c[i][:, index] for i, (index, _) in enumerate(kept_cells)),
    )
    x = torch.randn(7, 5, WIDTH, dtype=torch.float64)
    y, last = rnn(x, (h, c))
    assert y.shape == (7, 5, 1)
    assert [tuple(part.shape) for part in (*last[0], *last[1])] == [(5, 2), (5, 1), (5, 3), (5, 2)]
    assert_close([y, *last], [rnn(x, small)[0], *rnn(x, small)[1]])
    with pytest.raises(L0GateError, match=r"a state of 2 neurons; its .* has 1 \(or 3, the dense"):
        rnn(x, (small[0][:1] * 2, small[1]))


def test_dropout_lies_between_layers_in_training_only() -> None:
    rnn = RaggedRNN("GRU", [2, 5], WIDTH, num_layers=2, dropout=1.0)
    x = torch.randn(6, 4, WIDTH)
    second = rnn.cells[1](torch.zeros(6, 4, 2))[0]
    assert_close(rnn(x)[0], second)
    assert not torch.equal(rnn.eval()(x)[0], second)


def test_it_is_copied_pickled_and_moved_like_any_module() -> None:
    rnn = RaggedRNN(
        "LSTM", [2, 5], WIDTH, num_layers=2, kept=[(np.arange(2), 9), (np.arange(5), 9)]
    )
    x = torch.randn(6, 4, WIDTH)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        assert_close(other(x)[0], rnn(x)[0])
        other.flatten_parameters()
        assert_close(other(x, (torch.zeros(2, 4, 9),) * 2)[0], rnn(x)[0])
    assert rnn.double()(x.double())[0].dtype == torch.float64
    assert "LSTM, 3, [2, 5], num_layers=2" in repr(rnn)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (torch.zeros(1, 4, 2), "must hold 2 states, one per layer and direction"),
        ([torch.zeros(4, 2), torch.zeros(4, 3)], r"a state of 3 neurons; its .* has 5 \(or 9,"),
    ],
)
def test_states_that_do_not_fit(state: Any, message: str) -> None:
    rnn = RaggedRNN("GRU", [2, 5], WIDTH, num_layers=2, kept=[(np.arange(2), 9), (np.arange(5), 9)])
    with pytest.raises(L0GateError, match=message):
        rnn(torch.zeros(6, 4, WIDTH), state)


def test_sizes_must_be_one_per_layer_and_direction() -> None:
    with pytest.raises(
        L0GateError, match=r"`hidden_sizes` has 1 entries; 2 layers of 1 directions"
    ):
        RaggedRNN("GRU", [2], WIDTH, num_layers=2)
    with pytest.raises(
        L0GateError, match="`mode` is 'RNN'; it must be one of LSTM, GRU, RNN_TANH, RNN_RELU"
    ):
        RaggedRNN("RNN", [2], WIDTH)
