"""Gated torch models: trained, saved, copied, shrunk, rebuilt, and run without torch."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import chains
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import (
    Chained,
    Language,
    assert_close,
    autocast,
    inputs_of,
    prunable,
    set_gates,
    small_of,
    tokens,
)

import l0gate
from l0gate import Budget, HardConcrete, L0GateError, Layout
from l0gate.backends._torch.examples import Examples
from l0gate.backends._torch.shrinking.ragged import RaggedRNN

pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* keep every neuron:UserWarning"),
]


def gated_language(budget: Budget | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return l0gate.gate(
        options.pop("model", None) or Language(),
        example_inputs=options.pop("example_inputs", tokens()),
        budget=budget,
        strength=None if budget else 1e-3,
        **options,
    )


# Small equals gated ---------------------------------------------------------------------------


def kept_states(state: Any, kept: list[np.ndarray]) -> list[list[Tensor]]:
    """Per part (h or c) and cell, the dense state with the neurons that stayed."""
    parts = state if isinstance(state, tuple) else (state,)
    return [[h[..., index] for h, index in zip(part, kept, strict=True)] for part in parts]


@given(chains().filter(prunable), st.booleans())
def test_the_small_model_equals_the_gated_one(case: dict[str, Any], equal: bool) -> None:
    model, x = Chained(case), inputs_of(case, seed=1)
    gated = l0gate.gate(model, example_inputs=inputs_of(case), strength=1e-3)
    set_gates(gated, case["gates"], case["seed"])
    small = gated.shrink(equal=equal)
    certificate = small.certificate
    assert certificate.max_abs_difference <= 1e-12 * max(1, certificate.max_abs_output)
    y, last = gated.eval()(x)
    found, small_last = small(x)
    assert_close(found, y)
    axes = [a for a in certificate.kept if a[0] in "hfb"]
    order = sorted(axes, key=lambda a: (int(a[1:]), a[0] == "b"))
    expected = kept_states(last, [certificate.kept[axis] for axis in order])
    assert_close(by_cell(small_last), expected)
    # States of the dense size are taken where the counts differ, and mapped ones always.
    mapped = tuple(tuple(part) for part in expected)
    if not isinstance(small.rnn, RaggedRNN):
        mapped = tuple(torch.stack(part) for part in mapped)
    again = mapped if isinstance(model.rnn, nn.LSTM) else mapped[0]
    assert_close(small(x, again)[0], gated(x, last)[0])
    if isinstance(small.rnn, RaggedRNN):
        assert_close(small(x, last)[0], gated(x, last)[0])
    if not model.rnn.bidirectional:
        assert_close(step_by_step(small, x, case["batch_first"]), y)


def by_cell(state: Any) -> list[list[Tensor]]:
    """The states of a stock or ragged module: per part, one tensor for every cell."""
    pair = isinstance(state, tuple) and len(state) == 2
    is_lstm = pair and (isinstance(state[0], tuple) or state[0].ndim == 3)
    return [list(part) for part in (state if is_lstm else (state,))]


def step_by_step(model: nn.Module, x: Tensor, batch_first: bool) -> Tensor:
    time = 1 if batch_first else 0
    outputs, state = [], None
    for x_t in x.split(1, dim=time):
        y, state = model(x_t, state)
        outputs.append(y)
    return torch.cat(outputs, dim=time)


@given(chains().filter(prunable))
def test_a_small_chain_runs_without_torch(case: dict[str, Any]) -> None:
    small, x = small_of(Chained(case), inputs_of(case), case["gates"]), inputs_of(case, seed=1)
    saved = l0gate.get_backend(small).describe(small)
    assert set(saved.parameters) == set(Chained(case).state_dict())
    net = saved.net()
    y, state = net(x.numpy())
    expected, last = small(x)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    cells = by_cell(last)
    flat = [entry if isinstance(entry, tuple) else (entry,) for entry in state]
    for part, tensors in enumerate(cells):
        for cell, tensor in enumerate(tensors):
            np.testing.assert_allclose(flat[cell][part], tensor.detach(), rtol=1e-10, atol=1e-12)
    if not small.rnn.bidirectional:
        state = None
        for t in range(case["length"]):
            y_t, state = net.step(x.numpy()[:, t] if case["batch_first"] else x.numpy()[t], state)
        last_y = expected[:, -1] if case["batch_first"] else expected[-1]
        np.testing.assert_allclose(y_t, last_y.detach(), rtol=1e-10, atol=1e-12)


@given(chains().filter(prunable), st.booleans())
def test_a_small_model_is_rebuilt_from_its_file(case: dict[str, Any], equal: bool) -> None:
    small = small_of(Chained(case), inputs_of(case), case["gates"], equal=equal)
    backend, x = l0gate.get_backend(small), inputs_of(case, seed=1)
    dense = Chained({**case, "seed": 1})
    before = copy.deepcopy(dense.state_dict())
    rebuilt = backend.rebuild(dense, backend.describe(small))
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert_close(rebuilt.eval()(x)[0], small(x)[0])
    assert rebuilt.state_dict().keys() == small.state_dict().keys()
    again = backend.describe(rebuilt)
    for name, array in backend.describe(small).parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)


@given(chains().filter(prunable))
def test_a_small_model_can_be_made_smaller_still(case: dict[str, Any]) -> None:
    """Gated, shrunk, saved and given states, once more; ragged or not the first time."""
    x = inputs_of(case, seed=1)
    first = small_of(Chained(case), inputs_of(case))
    assert hasattr(first, "certificate")
    gated = l0gate.gate(first, example_inputs=inputs_of(case), strength=1e-3)
    set_gates(gated, case["gates"], case["seed"])
    second = gated.shrink()
    y, last = gated.eval()(x)
    assert_close(second(x)[0], y)
    if isinstance(second.rnn, RaggedRNN):  # of the size before, and of its own
        assert_close(second(x, last)[0], gated(x, last)[0])
        assert_close(second(x, second(x)[1])[0], gated(x, last)[0])
    backend, again = l0gate.get_backend(second), copy.deepcopy(first)
    rebuilt = backend.rebuild(again, backend.describe(second))
    assert_close(rebuilt.eval()(x)[0], y)
    assert rebuilt.state_dict().keys() == second.state_dict().keys()


# What the small model is ----------------------------------------------------------------------


def keep(gated: Any, **counts: int) -> None:
    """Gates of which so many per axis are open, some of them soft."""
    with torch.no_grad():
        for axis, values in gated.log_alpha.items():
            values.copy_(torch.linspace(-2.0, 3.0, len(values)))
            values[counts[axis] :] = -5.0


def test_modules_keep_their_kind_and_say_their_sizes() -> None:
    model = Language(nn.GRU, dropout=0.2)
    model.embedding = nn.Embedding(11, 6, padding_idx=2)
    model.embedding.weight.requires_grad_(False)
    model.rnn.weight_hh_l1.requires_grad_(False)
    gated = gated_language(model=model)
    keep(gated, x=4, h0=5, h1=3)
    small = gated.shrink()
    assert isinstance(small, Language)
    assert repr(small.embedding) == "Embedding(11, 4, padding_idx=2)"
    assert repr(small.decoder) == "Linear(in_features=3, out_features=11, bias=True)"
    assert isinstance(small.rnn, RaggedRNN)
    assert (small.rnn.input_size, small.rnn.hidden_sizes, small.rnn.dropout) == (4, (5, 3), 0.2)
    frozen = [name for name, p in small.named_parameters() if not p.requires_grad]
    assert frozen == ["embedding.weight", "rnn.cells.1.weight_hh_l0"]
    assert small.training
    assert small.rnn.training
    assert not gated.eval().shrink().rnn.training
    stock = gated.shrink(equal=True)
    assert repr(stock.rnn) == "GRU(4, 5, num_layers=2, dropout=0.2)"
    assert [len(index) for index in stock.certificate.kept.values()] == [4, 5, 5]


def test_one_layer_stays_stock() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            zeros = torch.zeros(1, len(x), 6)  # a size of its own
            y: Tensor = self.out(self.rnn(x, (zeros, zeros))[0])
            return y

    gated = gated_language(model=One(), example_inputs=torch.randn(2, 5, 3))
    keep(gated, h0=2)
    small = gated.shrink()
    assert repr(small.rnn) == "LSTM(3, 2, batch_first=True)"
    assert_close(small(torch.ones(4, 7, 3)), gated.eval()(torch.ones(4, 7, 3)))


def test_the_small_model_shares_nothing_with_the_gated_one() -> None:
    gated = gated_language()
    before = copy.deepcopy(gated.state_dict())
    small = gated.shrink()
    with torch.no_grad():
        for value in small.parameters():
            value.zero_()
    for name, value in gated.state_dict().items():
        assert torch.equal(value, before[name])


def test_equal_counts_can_be_part_of_the_selection() -> None:
    gated = gated_language(Budget(parameters=0.4), equal=True)
    set_gates(gated)
    gated.penalty(1.0)
    small = gated.shrink()
    assert type(small.rnn) is nn.LSTM
    cost = gated.pruner.cost
    counts = {axis: len(index) for axis, index in small.certificate.kept.items()}
    assert counts["h0"] == counts["h1"]
    assert cost.at(counts) <= gated.pruner.limit
    seen = nn.LSTM(4, 6, 2)
    with pytest.warns(
        UserWarning, match=r"\('h0', 'h1'\) keep every neuron: .* h1 must stay whole"
    ):
        gated_language(model=seen, example_inputs=torch.randn(5, 3, 4), equal=True)


def test_double_half_and_bfloat16_models() -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        gated = gated_language(model=Language().to(dtype))
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert gated.log_alpha["x"].dtype == gated.penalty(0.1).dtype == wanted
        set_gates(gated)
        small = gated.shrink()
        assert small.decoder.weight.dtype == dtype
        rebuilt = l0gate.get_backend(small).rebuild(
            Language().to(dtype), l0gate.get_backend(small).describe(small)
        )
        assert torch.equal(rebuilt.decoder.weight, small.decoder.weight)


def test_code_that_makes_floats_of_its_own_is_certified_in_float64() -> None:
    class Own(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            zeros = torch.zeros(2, x.shape[1], 8, dtype=torch.float32)
            y, _ = self.rnn(self.embedding(x).float(), (zeros, torch.zeros_like(zeros)))
            return self.decoder(y)

    set_gates(gated := gated_language(model=Own()))
    assert gated.shrink().certificate.max_abs_difference < 1e-12


# Training -------------------------------------------------------------------------------------


def train(gated: Any, optimizer: Any, start: int, stop: int, total: int) -> float:
    """A task of memory: say the token before."""
    gated.train()
    for step in range(start, stop):
        x = tokens(8, 16, seed=step)
        y, _ = gated(x)
        loss = F.cross_entropy(y[1:].flatten(0, 1), x[:-1].flatten())
        optimizer.zero_grad()
        (loss + gated.penalty(step / total)).backward()
        optimizer.step()
    return loss.item()


def test_five_lines_train_and_shrink() -> None:
    gated = gated_language(Budget(parameters=0.5))
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    first = train(gated, optimizer, 0, 1, 200)
    last = train(gated, optimizer, 0, 200, 200)
    small = gated.shrink()
    assert last < 0.7 * first
    assert all(value.grad is None for value in small.parameters())
    cost = gated.pruner.cost
    counts = {axis: len(index) for axis, index in small.certificate.kept.items()}
    assert sum(p.numel() for p in small.parameters()) == cost.at(counts) <= gated.pruner.limit
    for axis in counts:  # and no further neuron would fit
        assert cost.at({**counts, axis: counts[axis] + 1}) > gated.pruner.limit
    x = tokens(8, 16, seed=999)
    assert_close(small.eval()(x)[0], gated.eval()(x)[0])


def test_fresh_gates_change_nothing_in_eval_mode() -> None:
    gated = gated_language(model=Language(dropout=0.5).eval())
    assert not gated.training  # as the model
    assert torch.equal(gated(tokens())[0], gated.model(tokens())[0])
    with torch.no_grad():
        assert not torch.equal(gated.train()(tokens())[0], gated.model.eval()(tokens())[0])


def test_one_sample_per_optimizer_step() -> None:
    gated = gated_language(Budget(parameters=0.5))
    optimizer = torch.optim.SGD(gated.param_groups(lr=1e-2))
    x = tokens()
    first = gated(x)[0]
    assert torch.equal(gated(x)[0], first)
    assert torch.equal(gated.eval()(x)[0], gated(x)[0])  # no noise
    (gated.train()(x)[0].sum() + gated.penalty(0.0)).backward()
    assert torch.equal(gated(x)[0], first)
    optimizer.step()
    second = gated(x)[0]
    optimizer.step()  # the same gradient again: weights move, and so does the noise
    folded = [dict(gated._noise)]
    gated(x)
    folded.append(dict(gated._noise))
    assert not torch.equal(folded[0]["h0"], folded[1]["h0"])
    assert not torch.equal(first, second)


def test_multipliers_move_once_when_progress_advances() -> None:
    gated = gated_language(Budget(parameters=0.3))
    moved = []
    for progress in (0.0, 0.1, 0.1, 0.3, 0.3, 0.2):
        gated.penalty(progress)
        moved.append(gated.gates.multipliers.clone())
    assert not moved[0].any()
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(moved[1], moved[2])
    assert not torch.equal(moved[2], moved[3])
    assert torch.equal(moved[3], moved[4])
    assert torch.equal(moved[4], moved[5])
    with pytest.raises(L0GateError, match=r"`progress` is 1\.5"):
        gated.penalty(1.5)


def test_log_alpha_is_clamped_as_progress_advances() -> None:
    gated = gated_language()
    with torch.no_grad():
        gated.log_alpha["h0"].fill_(9.0)
    gated.penalty(0.5)
    gates = HardConcrete()
    assert float(gated.log_alpha["h0"].detach().max()) == gates.highest


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
def test_settled_gates_stay_whatever_the_optimizer_does() -> None:
    gated = gated_language(Budget(parameters=0.5, settle=0.8))
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    set_gates(gated)
    train(gated, optimizer, 0, 10, 10)
    assert gated.pruner.selected(gated.gates.read())
    decided = gated.pruner.gates(gated.gates.read())
    train(gated, optimizer, 10, 12, 12)
    for axis, values in gated.pruner.gates(gated.gates.read()).items():
        assert torch.equal(values, decided[axis])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is cut at the last moment
        gated.shrink()


def test_a_budget_that_was_never_met_says_so() -> None:
    gated = gated_language(Budget(parameters=0.3))
    with (
        pytest.warns(UserWarning, match="the gates stalled"),
        pytest.warns(UserWarning, match="open neurons were cut to meet the budget"),
    ):
        small = gated.shrink()
    assert small.certificate.forced_closed > 0


def test_parameter_groups() -> None:
    model = Language()
    model.embedding.weight.requires_grad_(False)
    gated = gated_language(model=model, gate_learning_rate=0.1)
    weights, gates = gated.param_groups(1e-3, weight_decay=0.1)
    assert [weights["lr"], weights["weight_decay"]] == [1e-3, 0.1]
    assert {id(p) for p in weights["params"]} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    assert [gates["lr"], gates["weight_decay"]] == [0.1, 0.0]
    assert [id(p) for p in gates["params"]] == [id(p) for p in gated.log_alpha.values()]
    assert gated.param_groups(1e-3, 0.5)[1]["lr"] == 0.5


def test_the_penalty_is_float32_under_autocast() -> None:
    gated = gated_language(Budget(parameters=0.5))
    gated.penalty(0.4)
    expected = gated.penalty(0.4)
    with autocast():
        assert gated(tokens())[0].dtype == torch.bfloat16
        assert torch.equal(gated.penalty(0.4), expected)
    assert expected.dtype == torch.float32


# A module like any other ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
@pytest.mark.parametrize("stop", [1, 5, 9])
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_going_on_from_a_copy_gives_the_same_numbers(stop: int, way: str) -> None:
    def fresh() -> tuple[Any, Any]:
        gated = gated_language(Budget(parameters=0.5, settle=0.6))
        return gated, torch.optim.Adam(gated.param_groups(lr=1e-2))

    whole, optimizer = fresh()
    train(whole, optimizer, 0, 12, 12)
    part, optimizer = fresh()
    train(part, optimizer, 0, stop, 12)
    if way == "state_dict":
        file = io.BytesIO()
        torch.save({"gated": part.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        checkpoint = torch.load(file, weights_only=True)
        other, other_optimizer = fresh()
        other.load_state_dict(checkpoint["gated"])
        other_optimizer.load_state_dict(checkpoint["optimizer"])
    else:
        other = copy.deepcopy(part) if way == "deepcopy" else pickle.loads(pickle.dumps(part))
        other_optimizer = torch.optim.Adam(other.param_groups(lr=1e-2))
        other_optimizer.load_state_dict(optimizer.state_dict())
    train(other, other_optimizer, stop, 12, 12)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert other.shrink().certificate.kept.keys() == whole.pruner.sizes.keys()


def test_gates_keep_their_dtype_and_follow_the_device() -> None:
    gated = gated_language()
    for change, dtype in (("half", torch.float16), ("double", torch.float64)):
        other = getattr(copy.deepcopy(gated), change)()
        assert other.model.decoder.weight.dtype == dtype
        assert other.log_alpha["h0"].dtype == torch.float32
        assert torch.equal(other.log_alpha["h0"], gated.log_alpha["h0"])
        assert other(tokens())[0].dtype == dtype
        assert other.penalty(0.5).dtype == torch.float32
    other = copy.deepcopy(gated).to("meta")
    assert {p.device.type for p in other.parameters()} == {"meta"}
    assert {b.device.type for b in other.buffers()} == {"meta"}


def test_axis_names_may_be_those_of_module_attributes() -> None:
    patterns = {
        "rnn.weight_ih_l0": "(3 training) <- forward",
        "rnn.weight_hh_l0": "(3 training) <- training",
        "rnn.bias_ih_l0": "(3 training)",
        "rnn.bias_hh_l0": "(3 training)",
        "embedding.weight": "_ -> forward",
        "decoder.weight": "_ <- training",
    }

    class One(Language):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, 8)

    gated = gated_language(model=One(), layout=Layout(patterns, uses={"embedding.weight": 0}))
    assert set(gated.log_alpha) == {"training", "forward"}
    set_gates(gated)
    copy.deepcopy(gated).load_state_dict(gated.state_dict())
    assert gated.shrink().certificate.max_abs_difference < 1e-12


def test_models_called_by_keyword() -> None:
    class ByName(Language):
        def forward(self, *, ids: Tensor, state: Any = None) -> Any:  # type: ignore[override]
            y, state = super().forward(ids, state)
            return {"logits": y, "state": state}

    gated = gated_language(model=ByName(), example_inputs={"ids": tokens()})
    set_gates(gated)
    small = gated.shrink()
    found, expected = small(ids=tokens()), gated.eval()(ids=tokens())
    assert_close(found["logits"], expected["logits"])


def test_examples_follow_the_model_to_its_device() -> None:
    x = torch.tensor([[1.0, 2.0]])
    examples = Examples(((x, torch.tensor([3])), {}), {1: 5}, x.device)
    for (drawn, lookup), _ in examples.draw(3, torch.device("cpu")):
        assert set(drawn.flatten().tolist()) <= {1.0, 2.0}  # the example's own floats
        assert 0 <= int(lookup) < 5
    elsewhere = Examples(((x,), {}), {}, torch.device("cuda"))
    for example, device in ((examples, "meta"), (elsewhere, "cpu")):
        drawn = next(example.draw(1, torch.device("meta")))[0][0]
        assert drawn.device.type == device


# Layouts given by hand ------------------------------------------------------------------------


class Features(nn.Module):
    """No embedding: the model's own inputs are features."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.decoder = nn.LSTM(4, 8, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor, offset: Any = 0.0) -> Tensor:
        y: Tensor = self.decoder(self.rnn(x)[0]) + offset
        return y


class Plain(Features):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y: Tensor = self.decoder(self.rnn(x)[0])
        return y


def test_gated_inputs_are_still_given_in_full(tmp_path: Path) -> None:
    layout = Layout.lstm(2, embedding=None)
    gated = l0gate.gate(Plain(), layout=layout, strength=1e-3)
    keep(gated, x=3, h0=5, h1=4)
    small = gated.shrink()
    assert small.rnn.input_size == 3
    x = torch.randn(5, 2, 4)
    assert_close(small(x), gated.eval()(x))
    assert_close(small(x[..., :3]), small(x))  # or the three that are read
    l0gate.save(tmp_path / "small.npz", small)
    y, _ = l0gate.load(tmp_path / "small.npz")(x.numpy())
    np.testing.assert_allclose(y, small(x).detach(), rtol=1e-4, atol=1e-6)
    assert_close(l0gate.load(tmp_path / "small.npz", into=Plain)(x), small(x))


def test_a_certificate_needs_inputs() -> None:
    class Two(Features):
        def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, offset)

    gated = l0gate.gate(Two(), layout=Layout.lstm(2, embedding=None), strength=1e-3)
    set_gates(gated)
    with pytest.raises(L0GateError, match=r"give `shrink\(example_inputs=...\)`"):
        gated.shrink()
    small = gated.shrink(example_inputs=(torch.randn(5, 2, 4), torch.randn(5, 2, 2)))
    assert small.certificate.max_abs_difference < 1e-12


def test_a_layout_that_misses_a_reader_is_found_before_training() -> None:
    class Skip(Features):
        def forward(self, x: Tensor, offset: Any = 0.0) -> Tensor:
            y = self.rnn(x)[0]
            return self.decoder(y) + y.sum(-1, keepdim=True)

    with pytest.raises(
        L0GateError, match=r"(?s)the model cannot be shrunk by its layout.*axis  size"
    ):
        l0gate.gate(Skip(), layout=Layout.lstm(2, embedding=None), strength=1e-3)
    gated = l0gate.gate(Skip(), layout=Layout.lstm(2, embedding=None), strength=1e-3, freeze=["h1"])
    assert gated.pruner.freeze == ("h1",)


def test_code_that_fixes_a_hidden_size_is_found_before_training() -> None:
    class Fixed(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            y, _ = self.rnn(self.embedding(x))
            return self.decoder(y.reshape(-1, 8))

    with pytest.raises(L0GateError, match=r"(?s)once it is small .*shape '\[-1, 8\]' is invalid"):
        gated_language(model=Fixed(), strict=True)
    with pytest.warns(UserWarning, match=r"axis 'h1': tried on random gates, .*shape '\[-1, 8\]'"):
        set_gates(gated := gated_language(model=Fixed()))
    kept = gated.shrink().certificate.kept
    assert len(kept["h0"]) < len(kept["h1"]) == 8


def test_states_used_as_one_tensor_lose_the_same_neurons() -> None:
    class Detached(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            y, (h, c) = self.rnn(self.embedding(x), state)
            return self.decoder(y), (h.detach(), c.detach())

    set_gates(gated := gated_language(model=Detached()))
    assert gated.layout.axes == ("x", "h0")
    small = gated.shrink()
    assert type(small.rnn) is nn.LSTM
    assert small.rnn.hidden_size < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.weight_hh_l0": "(3 h0) <- h0"}, r"'\(3 h0\) <- h0'; torch's LSTM needs '\(4 h\)"),
        ({"rnn.weight_hh_l0": "(4 h0) <- _"}, r"torch's LSTM needs '\(4 h\) <- h'"),
        ({"rnn.bias_hh_l1": None}, r"every parameter of module 'rnn'; missing: rnn\.bias_hh_l1"),
        ({"rnn.weight": "_ <- x"}, r"names the parameter 'rnn\.weight', which the model does not"),
    ],
)
def test_layouts_that_do_not_fit_the_model(changes: dict[str, Any], message: str) -> None:
    patterns = {**Layout.lstm(2).to_dict(), **changes}
    layout = Layout({name: text for name, text in patterns.items() if text is not None})
    with pytest.raises(L0GateError, match=message):
        l0gate.gate(Language(), layout=layout, strength=1e-3)


# Files and refusals ---------------------------------------------------------------------------


def test_files_of_other_models_are_refused(tmp_path: Path) -> None:
    set_gates(gated := gated_language())
    path = tmp_path / "small.npz"
    l0gate.save(path, gated.shrink(), metadata={"vocabulary": ["a"]})
    assert l0gate.load(path).saved.metadata == {"vocabulary": ["a"]}
    with pytest.raises(L0GateError, match=r"a Language of other sizes .*'h0': 8.*"):
        l0gate.load(path, into=wider)
    with pytest.raises(L0GateError, match=r"Features, which is not the kind .* lacks embedding\."):
        l0gate.load(path, into=Features)
    for model in (gated, Language()):
        with pytest.raises(L0GateError, match=r"l0gate did not shrink"):
            l0gate.save(path, model)


def wider() -> nn.Module:
    model = Language()
    model.rnn, model.decoder = nn.LSTM(6, 9, 2), nn.Linear(9, 11)
    return model


def test_a_model_that_is_no_chain_needs_itself_to_load(tmp_path: Path) -> None:
    class Own(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            return F.log_softmax(super().forward(x, state)[0], -1)

    set_gates(gated := gated_language(model=Own()))
    small = gated.shrink()
    l0gate.save(tmp_path / "small.npz", small)
    with pytest.raises(L0GateError, match="not a chain"):
        l0gate.load(tmp_path / "small.npz")
    rebuilt = l0gate.load(tmp_path / "small.npz", into=Own)
    assert_close(rebuilt(tokens()), small(tokens()))
    assert rebuilt.certificate.max_abs_difference == small.certificate.max_abs_difference
    # A rebuilt model takes what its dense twin took.
    dense_state = (torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    assert_close(rebuilt(tokens(), dense_state), small(tokens()))


def test_what_cannot_be_gated() -> None:
    x = tokens()
    with pytest.raises(L0GateError, match="give `example_inputs`"):
        l0gate.gate(Language(), strength=1e-3)
    with pytest.raises(L0GateError, match="`model` is gated already"):
        l0gate.gate(gated_language(), example_inputs=x, strength=1e-3)
    with pytest.raises(L0GateError, match="without a size yet"):
        l0gate.gate(nn.Sequential(nn.LazyLinear(3)), example_inputs=x, strength=1e-3)
    with pytest.raises(L0GateError, match="`example_inputs`: the model Language fails on them"):
        l0gate.gate(Language(), example_inputs=x.float(), strength=1e-3)

    class Mine(nn.LSTM):
        pass

    model = Language()
    model.rnn = Mine(6, 8, 2)
    set_gates(gated := l0gate.gate(model, example_inputs=x, strength=1e-3))
    assert type(gated.shrink().rnn) is Mine


@pytest.mark.parametrize("equal", [False, True])
def test_a_small_model_goes_with_its_last_reference(equal: bool) -> None:
    gated = l0gate.gate(
        nn.LSTM(3, 6, num_layers=2),
        example_inputs=torch.zeros(4, 2, 3),
        strength=0.1,
        freeze=["h1"],
    )
    set_gates(gated)
    gc.collect()
    gc.disable()  # nothing may wait for the collector, which knows nothing of a tensor's size
    try:
        small = gated.shrink(equal=equal)
        weights = [weakref.ref(weight) for weight in small.parameters()]
        del small
        assert weights
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()
