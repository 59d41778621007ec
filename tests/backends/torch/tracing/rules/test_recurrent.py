"""Recurrent layers and cells: inputs, states given and returned, projections, ungated modules."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_models import Language, set_gates, tokens
from torch_shapes import EXPECTED_WARNINGS
from traced_models import Model, Run, assert_followed, assert_shrinks, gated_model, hidden

from l0gate import L0GateError

pytestmark = EXPECTED_WARNINGS


def own_states(m: Any, x: Tensor) -> Tensor:
    zeros = next(m.parameters()).new_zeros(2, x.shape[1], 8)
    return m.out(m.rnn(m.table(x), (zeros, torch.zeros_like(zeros)))[0])


FOLLOWED: dict[str, Run] = {
    "own attribute as state": own_states,
    "state returned": lambda m, x: (m.out((r := m.rnn(m.table(x)))[0]), r[1]),
    "dict": lambda m, x: {"y": m.out((r := m.rnn(m.table(x)))[0]), "state": r[1]},
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_states_given_and_returned_are_followed(name: str, equal: bool) -> None:
    assert_followed(FOLLOWED[name], equal)


def test_packed_sequences() -> None:
    def packed(m: Any, x: Tensor, lengths: Tensor) -> Any:
        sequence = pack_padded_sequence(m.table(x), lengths, enforce_sorted=False)
        y, last = m.rnn(sequence)
        return m.out(pad_packed_sequence(y)[0]), last

    model = Model(packed, bidirectional=True)
    gated = gated_model(model, (tokens(), torch.tensor([2, 5, 3])))
    assert set(gated.layout.axes) == {"x", "f0", "b0", "f1", "b1"}
    assert_shrinks(gated)


def test_unbatched_sequences_and_states() -> None:
    states = torch.zeros(2, 2, 8).unbind()
    assert_shrinks(gated_model(Language(), (tokens()[:, 0], states)))


def test_projections_have_axes_of_their_own() -> None:
    model = Model(lambda m, x: m.wide(m.rnn(m.table(x))[0]), proj_size=3, bidirectional=True)
    model.wide = nn.Linear(6, 2)
    layout = gated_model(model).layout.to_dict()
    assert layout["rnn.weight_hr_l0"] == "fp0 <- f0"
    assert layout["rnn.weight_hh_l0_reverse"] == "(4 b0) <- bp0"
    assert layout["rnn.weight_ih_l1"] == "(4 f1) <- (fp0 + bp0)"
    assert layout["wide.weight"] == "_ <- (fp1 + bp1)"


@pytest.mark.parametrize(
    ("cell", "blocks"), [(nn.LSTMCell, "(4 h0)"), (nn.GRUCell, "(3 h0)"), (nn.RNNCell, "h0")]
)
def test_a_cell_has_the_blocks_of_its_layer(cell: type[Any], blocks: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        state = None
        for x_t in m.table(x):
            state = m.rnn(x_t, state)
        return m.out(state[0] if isinstance(state, tuple) else state)

    gated = gated_model(Model(run, lambda inputs, size, num_layers: cell(inputs, size)))
    layout = gated.layout.to_dict()
    assert layout["rnn.weight_ih"] == f"{blocks} <- x"
    assert layout["rnn.weight_hh"] == f"{blocks} <- h0"
    assert layout["rnn.bias_hh"] == blocks
    assert_shrinks(gated)


def test_a_state_handed_to_another_module() -> None:
    model = Model(lambda m, x: m.out(m.second(m.table(x), m.rnn(m.table(x))[1])[0]), nn.GRU)
    model.second = nn.GRU(6, 8, num_layers=2)
    gated = gated_model(model)
    assert gated.layout.axes == ("x", "h0", "h1")  # layer by layer the same
    assert_shrinks(gated)
    assert_shrinks(gated_model(model, freeze=["h0"]))


def test_a_state_that_lies_in_another_dimension_is_frozen() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        state = hidden(m, x[:, :3])[:1].mT  # (1, neurons, sequences)
        return m.out(m.second(m.table(x), state)[0])

    model = Model(run, nn.GRU)
    model.out, model.second = nn.Linear(3, 3), nn.GRU(6, 3)
    message = "axis 'h1': module 'second' .* in the initial state, where they do not match"
    with pytest.warns(UserWarning, match=message):
        gated = gated_model(model, tokens(5, 8))
    assert set(gated.frozen) == {"h1"}
    assert_shrinks(gated)


def test_computed_weights_elsewhere_do_not_matter() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x)) + m.gain(torch.ones(3)))
    model.gain = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    assert set(gated_model(model).layout.axes) == {"x", "h0", "h1"}
    model.rnn = nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    message = r"module 'rnn' \(ParametrizedLSTM\) has a weight that is computed"
    with pytest.raises(L0GateError, match=rf"(?s)no recurrent layer .* could be gated.*{message}"):
        gated_model(model)
    model.second = nn.GRU(8, 8)
    model.run = lambda m, x: m.out(m.second(hidden(m, x))[0]) + m.gain(torch.ones(3))
    with pytest.warns(UserWarning, match=message):
        gated = gated_model(model)
    assert re.search(message, gated.frozen["x"])
    set_gates(gated)
    assert len(gated.shrink().certificate.kept["h0"]) < 8
    with pytest.raises(L0GateError, match=message):
        gated_model(model, strict=True)


def test_weights_tied_within_a_module_leave_it_ungated() -> None:
    """One tensor for both directions, before a layer that can be gated."""
    model = Model(lambda m, x: m.out(m.rnn(m.both(m.table(x))[0])[0]), nn.GRU)
    model.both = nn.GRU(6, 3, bidirectional=True)
    model.both.weight_hh_l0_reverse = model.both.weight_hh_l0
    with pytest.warns(UserWarning, match="has one tensor for two of its weights"):
        gated = gated_model(model)
    assert set(gated.layout.axes) - set(gated.frozen) == {"h0", "h1"}
    assert_shrinks(gated, tokens())
