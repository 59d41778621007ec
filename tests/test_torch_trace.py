"""Layouts derived from torch models: what is followed, what is refused and how that is said."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from strategies import chains
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_models import Chained, Language, inputs_of, set_gates, tokens

import l0gate
from l0gate import L0GateError, Layout
from l0gate._chain import Chain
from l0gate.backends._torch.tracing.derive import derive

pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:these parts of the model are frozen:UserWarning"),
]


@given(chains())
def test_a_chain_has_the_layout_of_its_description(case: dict[str, Any]) -> None:
    model = Chained(case)
    chain = Chain(case["layers"], case["batch_first"])
    derived = derive(model, ((inputs_of(case),), {}))
    expected = chain.layout.to_dict()
    if chain.input_axis:  # the model's own inputs are not gated: callers give all of them
        assert chain.input_axis == "x"
        expected = {name: text.replace("<- x", "<- _") for name, text in expected.items()}
    assert derived.layout.to_dict() == expected
    assert set(derived.frozen) == set(chain.frozen)


class Model(nn.Module):
    """Parts for a forward that is given as a function."""

    def __init__(self, run: Callable[..., Any], cell: Any = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.run = run
        self.table = nn.Embedding(11, 6)
        self.rnn = cell(6, 8, **{"num_layers": 2, **options})
        self.out = nn.Linear(8 * (1 + bool(options.get("bidirectional"))), 3)
        self.norm = nn.LayerNorm(8)
        self.pick = nn.Linear(3, 3)

    def forward(self, *args: Any) -> Any:
        return self.run(self, *args)


def hidden(m: Any, x: Tensor) -> Tensor:
    y: Tensor = m.rnn(m.table(x))[0]
    return y


def packed(m: Any, x: Tensor, lengths: Tensor) -> Any:
    sequence = pack_padded_sequence(m.table(x), lengths, enforce_sorted=False)
    y, last = m.rnn(sequence)
    return m.out(pad_packed_sequence(y)[0]), last


def chunks(m: Any, x: Tensor) -> Tensor:
    outputs, state = [], None
    for x_t in x:
        y, state = m.rnn(m.table(x_t[None]), state)
        outputs.append(y[0])
    return m.out(torch.cat(outputs))


def own_states(m: Any, x: Tensor) -> Tensor:
    zeros = next(m.parameters()).new_zeros(2, x.shape[1], 8)
    return m.out(m.rnn(m.table(x), (zeros, torch.zeros_like(zeros)))[0])


def in_place(m: Any, x: Tensor) -> Tensor:
    y = F.dropout(hidden(m, x), 0.3, m.training, inplace=True)
    y = F.relu(y, inplace=True)
    y *= 2
    y += 1
    return F.log_softmax(m.out(1 - y.float() / 3), dim=-1)


def masked(m: Any, x: Tensor) -> Tensor:
    return m.out(hidden(m, x) * (x > 3).unsqueeze(-1))


def joined(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    wide = torch.cat([y[-1], y[:, :, :][0], torch.ones(len(x[0]), 2), y.flip(0)[0, ...]], dim=1)
    return F.linear(wide, m.wide)


FOLLOWED: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "activation": (lambda m, x: m.out(torch.tanh(hidden(m, x))), {}),
    "own attribute as state": (own_states, {}),
    "batch to the front": (lambda m, x: m.out(hidden(m, x).transpose(0, 1).contiguous()), {}),
    "permute": (lambda m, x: m.out(hidden(m, x).permute(1, 0, 2)), {}),
    "flat": (lambda m, x: m.out(hidden(m, x).reshape(-1, m.rnn(m.table(x))[0].size(2))), {}),
    "merged time": (lambda m, x: m.out(hidden(m, x).flatten(0, 1)), {}),
    "last step": (lambda m, x: m.out(hidden(m, x)[-1]), {}),
    "chosen step": (
        lambda m, x: m.out(hidden(m, x)[torch.arange(3) + 1, torch.arange(3)]),
        {},
    ),
    "some steps": (lambda m, x: m.out(hidden(m, x)[1:, None, :2]), {}),
    "masked steps": (lambda m, x: m.out(hidden(m, x)[x > 3]), {}),
    "select": (lambda m, x: m.out(hidden(m, x).select(0, -1)), {}),
    "split over time": (lambda m, x: m.out(hidden(m, x).split(2)[0]), {}),
    "last state": (lambda m, x: m.out(m.rnn(m.table(x))[1][0][-1]), {}),
    "last states": (
        lambda m, x: m.out(torch.cat((m.rnn(m.table(x))[1][-2], m.rnn(m.table(x))[1][-1]), 1)),
        {"cell": nn.GRU, "bidirectional": True},
    ),
    "only state": (
        lambda m, x: m.out(m.rnn(m.table(x))[1].squeeze(0)),
        {"cell": nn.GRU, "num_layers": 1},
    ),
    "masked by steps": (masked, {}),
    "filled": (lambda m, x: m.out(hidden(m, x).masked_fill((x > 3)[..., None], 0.0)), {}),
    "stacked": (
        lambda m, x: m.out(torch.stack([y_t * 2 for y_t in hidden(m, x)], dim=1)),
        {},
    ),
    "narrow": (lambda m, x: m.out(hidden(m, x).narrow(0, 1, 2).flip(0, 1)), {}),
    "chosen steps": (lambda m, x: m.out(hidden(m, x).index_select(0, torch.arange(2))), {}),
    "permute by name": (lambda m, x: m.out(torch.permute(hidden(m, x), dims=(1, 0, 2))), {}),
    "in place": (in_place, {}),
    "step by step": (chunks, {}),
    "state returned": (lambda m, x: (m.out((r := m.rnn(m.table(x)))[0]), r[1]), {}),
    "dict": (lambda m, x: {"y": m.out((r := m.rnn(m.table(x)))[0]), "state": r[1]}, {}),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("equal", [False, True])
def test_what_is_followed_shrinks_exactly(name: str, equal: bool) -> None:
    run, options = FOLLOWED[name]
    gated = l0gate.gate(Model(run, **options), example_inputs=tokens(), strength=1e-3, equal=equal)
    letters = "fb" if options.get("bidirectional") else "h"
    depth = options.get("num_layers", 2)
    assert set(gated.layout.axes) == {"x"} | {f"{c}{i}" for i in range(depth) for c in letters}
    assert gated.pruner.freeze == ()
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_packed_sequences() -> None:
    model = Model(packed, bidirectional=True)
    gated = l0gate.gate(model, example_inputs=(tokens(), torch.tensor([2, 5, 3])), strength=1e-3)
    assert set(gated.layout.axes) == {"x", "f0", "b0", "f1", "b1"}
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_unbatched_sequences_and_states() -> None:
    states = torch.zeros(2, 2, 8).unbind()
    gated = l0gate.gate(Language(), example_inputs=(tokens()[:, 0], states), strength=1e-3)
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_concatenation_puts_axes_side_by_side() -> None:
    model = Model(joined)
    model.wide = nn.Parameter(torch.randn(3, 26))
    gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert gated.layout.to_dict()["wide"] == "_ <- (2 h1 + 2 + h1)"
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_directions_taken_apart_keep_the_same_neurons() -> None:
    def halves(m: Any, x: Tensor) -> Tensor:
        y = hidden(m, x)
        size = y.shape[-1] // 2
        return m.out(torch.cat([y[-1, :, size:], y[0, :, :size]], -1))

    model = Model(halves, num_layers=1, bidirectional=True)
    gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert gated.layout.to_dict()["out.weight"] == "_ <- (2 f0)"
    assert set(gated.layout.axes) == {"x", "f0"}
    assert not gated.frozen


@pytest.mark.parametrize(
    "take",
    [lambda y: y[..., 8:] + 0, lambda y: y.narrow(-1, 8, 8), lambda y: y.view(5, 3, 2, 8)[:, :, 1]],
)
def test_directions_by_a_size_in_the_code_stay_whole(take: Callable[[Tensor], Tensor]) -> None:
    model = Model(lambda m, x: m.single(take(hidden(m, x))), num_layers=1, bidirectional=True)
    model.single = nn.Linear(8, 3)
    with pytest.warns(UserWarning, match="axis 'f0': tried on random gates, it cannot be shrunk"):
        gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert set(gated.frozen) == {"f0"}


def test_a_linear_layer_between_recurrent_ones_writes_their_inputs() -> None:
    class Select(nn.Module):
        def forward(self, result: Any) -> Tensor:
            y: Tensor = result[0]
            return y

    first, second = (nn.GRU(6, 5), Select()), (nn.LSTM(7, 4), Select())
    between = nn.Linear(5, 7), nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 6), *first, *between, *second, nn.Linear(4, 2))
    gated = l0gate.gate(model, example_inputs=torch.randn(5, 2, 4), strength=1e-3)
    assert gated.layout.to_dict() == {
        "0.weight": "x <- _",
        "0.bias": "x",
        "1.weight_ih_l0": "(3 h0) <- x",
        "1.weight_hh_l0": "(3 h0) <- h0",
        "1.bias_ih_l0": "(3 h0)",
        "1.bias_hh_l0": "(3 h0)",
        "3.weight": "x1 <- h0",
        "3.bias": "x1",
        "5.weight_ih_l0": "(4 h1) <- x1",
        "5.weight_hh_l0": "(4 h1) <- h1",
        "5.bias_ih_l0": "(4 h1)",
        "5.bias_hh_l0": "(4 h1)",
        "7.weight": "_ <- h1",
        "7.bias": "_",
    }
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_two_tables_have_axes_of_their_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.tags = nn.Embedding(11, 4), nn.Embedding(11, 3)
            self.rnn, self.out = nn.GRU(7, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.rnn(torch.cat([self.words(x), self.tags(x)], -1))[0])
            return y

    gated = l0gate.gate(Two(), example_inputs=tokens(), strength=1e-3)
    assert gated.layout.to_dict()["rnn.weight_ih_l0"] == "(3 h0) <- (x + x_2)"
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_a_module_used_twice_has_one_set_of_axes() -> None:
    def twice(m: Any, x: Tensor) -> Tensor:
        return m.out(hidden(m, x)[-1]) + m.out(hidden(m, x.flip(0))[-1])

    gated = l0gate.gate(Model(twice), example_inputs=tokens(), strength=1e-3)
    assert set(gated.layout.axes) == {"x", "h0", "h1"}


def test_an_output_that_the_caller_sees_stays_whole() -> None:
    @dataclass
    class Output:
        features: Tensor

    for run in (
        hidden,
        lambda m, x: Output(hidden(m, x)),
        lambda m, x: (m.out(y := hidden(m, x)), y),
    ):
        gated = l0gate.gate(Model(run), example_inputs=tokens(), strength=1e-3)
        assert gated.pruner.freeze == ("h1",)
        set_gates(gated)
        small = gated.shrink()
        assert len(small.certificate.kept["h1"]) == 8
        assert len(small.certificate.kept["h0"]) < 8


def full_width(m: Any, x: Tensor) -> Tensor:
    return m.out(hidden(m, x) * torch.ones(8))


def residual(m: Any, x: Tensor) -> Tensor:
    return m.out(hidden(m, x) + m.lift(m.table(x)))


def written(m: Any, x: Tensor) -> Tensor:
    buffer = torch.zeros(*x.shape, 8)
    buffer[0] = hidden(m, x)[0]
    return m.out(buffer)


def attention(m: Any, x: Tensor) -> Tensor:
    y = hidden(m, x)
    return torch.softmax(y @ y.mT, dim=-1) @ m.out(y)


def handed_on(m: Any, x: Tensor) -> Tensor:
    return m.out(m.second(m.table(x), m.rnn(m.table(x))[1])[0])


REFUSED: dict[str, tuple[Callable[..., Any], str, str]] = {
    "norm": (lambda m, x: m.out(m.norm(hidden(m, x))), "h1", "module 'norm' .* layer_norm"),
    "mean": (lambda m, x: m.out(hidden(m, x) - hidden(m, x).mean(-1, True)), "h1", "in mean"),
    "full width": (full_width, "h1", "mul, together with a tensor that has a value for each"),
    "buffer": (written, "h1", "in setitem, which l0gate cannot follow"),
    "split": (
        lambda m, x: m.out(hidden(m, x).view(5, 3, 2, 4).flatten(2)),
        "h1",
        "merges or splits",
    ),
    "quarters": (
        lambda m, x: m.out(torch.cat(hidden(m, x).split([4, 4], -1), -1)),
        "h1",
        "split along their own",
    ),
    "every other": (
        lambda m, x: m.out(hidden(m, x)[..., ::2].repeat(1, 1, 2)),
        "h1",
        "index that selects some of",
    ),
    "some neurons": (
        lambda m, x: m.out(F.pad(hidden(m, x)[..., :4], (0, 4))),
        "h1",
        "index that selects some of its",
    ),
    "along": (lambda m, x: m.out(hidden(m, x).flip(0, -1)), "h1", "flip along their own"),
    "narrowed": (
        lambda m, x: m.pick(hidden(m, x).narrow(-1, 0, 3)),
        "h1",
        "narrow along their own",
    ),
    "attention": (attention, "h1", "in matmul"),
    "chosen neurons": (
        lambda m, x: m.pick(hidden(m, x)[..., torch.arange(3)]),
        "h1",
        "index that selects some of its",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_names_module_axis_and_the_way_round(name: str) -> None:
    run, axis, message = REFUSED[name]
    where = rf"axis '{axis}': [^\n]*{message}[^\n]*\n"
    with pytest.raises(L0GateError, match=rf"{where}give `freeze="):
        l0gate.gate(Model(run), example_inputs=tokens(), strength=1e-3, strict=True)
    with pytest.warns(UserWarning, match=rf"{where}`freeze=\['{axis}'\]` accepts that"):
        warned = l0gate.gate(Model(run), example_inputs=tokens(), strength=1e-3)
    assert re.search(message, warned.frozen[axis])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".* did not run on `example_inputs` in eval")
        asked = l0gate.gate(
            Model(run), example_inputs=tokens(), strength=1e-3, freeze=[axis], strict=True
        )
    assert asked.frozen == {axis: "named in `freeze`"}
    for gated in (warned, asked):
        set_gates(gated)
        small = gated.shrink()
        assert len(small.certificate.kept[axis]) == 8
        assert len(small.certificate.kept["h0"]) < 8


def test_neurons_that_meet_others_become_one_axis() -> None:
    model = Model(residual)
    model.lift = nn.GRU(6, 8)
    model.run = lambda m, x: m.out(hidden(m, x) + m.lift(m.table(x))[0])
    gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert gated.layout.to_dict()["lift.weight_hh_l0"] == "(3 h1) <- h1"
    assert gated.layout.axes == ("x", "h0", "h1")
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_a_state_handed_to_another_module() -> None:
    model = Model(handed_on, nn.GRU)
    model.second = nn.GRU(6, 8, num_layers=2)
    gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert gated.layout.axes == ("x", "h0", "h1")  # layer by layer the same
    set_gates(gated)
    assert gated.shrink().certificate.max_abs_difference < 1e-12
    frozen = l0gate.gate(model, example_inputs=tokens(), strength=1e-3, freeze=["h0"])
    set_gates(frozen)
    assert frozen.shrink().certificate.max_abs_difference < 1e-12


def test_tied_weights_are_one_axis_derived_or_described_by_hand() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.rnn, self.out = nn.Embedding(11, 6), nn.GRU(6, 6), nn.Linear(6, 11)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.rnn(self.table(x))[0])
            return y

    derived = l0gate.gate(Tied(), example_inputs=tokens(), strength=1e-3, strict=True)
    patterns = {
        "table.weight": "_ <- e",
        "out.bias": "_",
        "rnn.weight_ih_l0": "(3 e) <- e",
        "rnn.weight_hh_l0": "(3 e) <- e",
        "rnn.bias_ih_l0": "(3 e)",
        "rnn.bias_hh_l0": "(3 e)",
    }
    named = {name: text.replace("e", "h0") for name, text in patterns.items()}
    assert derived.layout.to_dict() == named
    by_hand = l0gate.gate(Tied(), layout=Layout(patterns), example_inputs=tokens(), strength=1e-3)
    for gated in (derived, by_hand):
        set_gates(gated)
        small = gated.shrink()
        assert small.out.weight is small.table.weight
        assert small.out.in_features == small.table.embedding_dim < 6
    twice = Layout({**patterns, "out.weight": "_ <- e"})
    with pytest.raises(
        L0GateError, match=r"'out\.weight', which is the same tensor as 'table\.weight'"
    ):
        l0gate.gate(Tied(), layout=twice, strength=1e-3)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_reader_whose_weight_is_computed_is_refused() -> None:
    layout = Layout.lstm(2)
    for norm, message in (
        (
            nn.utils.parametrizations.weight_norm,
            r"'h1': module 'decoder' .* uses its neurons in linear, with a weight that is comp",
        ),
        (nn.utils.weight_norm, r"cannot be copied, .*weight_norm"),
    ):
        model = Language()
        model.decoder = norm(model.decoder)
        with pytest.raises(L0GateError, match=message):
            l0gate.gate(model, example_inputs=tokens(), strength=1e-3, strict=True)
        with pytest.raises(L0GateError, match=r"'decoder\.weight', which is computed"):
            l0gate.gate(model, layout=layout, strength=1e-3)


def test_computed_weights_elsewhere_do_not_matter() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x)) + m.gain(torch.ones(3)))
    model.gain = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    assert set(l0gate.gate(model, example_inputs=tokens(), strength=1e-3).layout.axes) == {
        "x",
        "h0",
        "h1",
    }
    model.rnn = nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    message = r"module 'rnn' \(ParametrizedLSTM\) has a weight that is computed"
    with pytest.raises(L0GateError, match=rf"(?s)no recurrent layer .* could be gated.*{message}"):
        l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    model.second = nn.GRU(8, 8)
    model.run = lambda m, x: m.out(m.second(hidden(m, x))[0]) + m.gain(torch.ones(3))
    with pytest.warns(UserWarning, match=message):
        gated = l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert re.search(message, gated.frozen["x"])
    set_gates(gated)
    assert len(gated.shrink().certificate.kept["h0"]) < 8
    with pytest.raises(L0GateError, match=message):
        l0gate.gate(model, example_inputs=tokens(), strength=1e-3, strict=True)


def test_recurrent_modules_are_never_left_out_in_silence() -> None:
    model = Model(lambda m, x: m.out(hidden(m, x)))
    model.spare = nn.GRU(6, 8)
    with pytest.warns(UserWarning, match=r"'spare' \(GRU\) did not run on `example_inputs`"):
        l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    with pytest.raises(L0GateError, match=r"no recurrent layer of torch's own that could"):
        l0gate.gate(nn.Linear(2, 2), example_inputs=torch.zeros(1, 2), strength=1e-3)


def test_an_embedding_that_is_normed_stays_whole_when_asked() -> None:
    def normed(m: Any, x: Tensor) -> Tensor:
        return m.out(m.rnn(F.layer_norm(m.table(x), (6,)))[0])

    with pytest.raises(L0GateError, match=r"axis 'x': the model's own forward .* layer_norm"):
        l0gate.gate(Model(normed), example_inputs=tokens(), strength=1e-3, strict=True)
    gated = l0gate.gate(Model(normed), example_inputs=tokens(), strength=1e-3, freeze=["x"])
    assert gated.layout.to_dict()["table.weight"] == "_ -> _"
    assert set(gated.layout.axes) == {"h0", "h1"}


def test_frozen_axes_must_be_the_models() -> None:
    with pytest.raises(
        L0GateError, match="`freeze` names 'h2'; the axes of the model are x, h0, h1"
    ):
        l0gate.gate(Language(), example_inputs=tokens(), strength=1e-3, freeze=["h0", "h2"])


def test_the_model_is_left_as_it_was() -> None:
    model = Language(dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    l0gate.gate(model, example_inputs=tokens(), strength=1e-3)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
