"""The gate state as parameters and buffers, and its start for a trained model."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_loops import gated_model
from torch_models import Language, gated_language, set_gates, tokens

from l0gate import Budget, HardConcrete, L0GateError, Layout

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


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


# Warm start -----------------------------------------------------------------------------------


def next_token_loss(model: Any, seed: int) -> Tensor:
    """The task: the token that follows is this one and the last, added."""
    x = tokens(steps=8, batch=16, seed=seed)
    wanted = (x + torch.cat([torch.zeros_like(x[:1]), x[:-1]])) % 11
    return F.cross_entropy(model(x)[0].flatten(0, 1), wanted.flatten())


class Wider(Language):
    """Language with room to spare."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn, self.decoder = (
            nn.Embedding(11, 16),
            nn.LSTM(16, 48, 2),
            nn.Linear(48, 11),
        )


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    model = Wider()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for k in range(250):
        optimizer.zero_grad()
        next_token_loss(model, k).backward()
        optimizer.step()
    assert next_token_loss(model, 1000).item() < 0.1
    return model


@torch.no_grad()
def distance(gated: Any, model: nn.Module) -> float:
    """Relative to the model's outputs, over samples of the gates (root mean square)."""
    x = tokens(steps=8, batch=16, seed=5)
    expected, squares = model(x)[0], []
    for seed in range(30):
        gated._drawn, gated.gates.rng = None, (seed, 0)
        squares.append((gated.train()(x)[0] - expected).square().mean())
    return float((torch.stack(squares).mean() / expected.square().mean()).sqrt())


def test_a_warm_start_is_near_the_trained_model(trained: nn.Module) -> None:
    x = tokens(steps=8, batch=16, seed=5)
    cold = gated_model(copy.deepcopy(trained))
    warm = gated_model(copy.deepcopy(trained), warm_start=True)
    assert torch.equal(warm.eval()(x)[0], trained(x)[0])
    away = [distance(gated, trained) for gated in (warm, cold)]
    assert 0.05 < away[0] < 0.15
    assert 0.2 < away[1] < 0.4
    for gated, mean in ((warm, 0.014), (cold, 0.102)):
        noise, _ = gated.pruner.noise(gated.gates.read(), (0, 0))
        state = gated.gates.read()
        draws = []
        for _ in range(200):
            draws.append(torch.cat(list(gated.pruner.gates(state, noise).values())))
            noise, _ = gated.pruner.noise(state, (len(draws), 0))
        assert abs((1 - torch.stack(draws)).mean().item() - mean) < 0.003


def test_prune_while_fine_tuning_then_fine_tune_the_small_model(trained: nn.Module) -> None:
    gated = gated_model(
        copy.deepcopy(trained), warm_start=True, budget=Budget(parameters=0.5), strength=None
    )
    optimizer = torch.optim.Adam(gated.param_groups(lr=5e-3))
    for k in range(200):
        optimizer.zero_grad()
        (next_token_loss(gated, k) + gated.penalty(k / 200)).backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = gated.shrink()
    assert small.certificate.max_abs_difference < 1e-10
    before = next_token_loss(small, 1000).item()
    optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
    for k in range(60):
        optimizer.zero_grad()
        next_token_loss(small, k).backward()
        optimizer.step()
    assert next_token_loss(small, 1000).item() < before
    assert sum(p.numel() for p in small.parameters()) < 0.55 * sum(
        p.numel() for p in trained.parameters()
    )


def test_a_warm_start_fits_the_gates_it_is_given() -> None:
    for gates in (
        HardConcrete(initial=0.5),
        HardConcrete(highest=3.0),
        HardConcrete(rule="median"),
    ):
        gated = gated_model(warm_start=True, gates=gates)
        for values in gated.log_alpha.values():
            assert len(set(values.tolist())) == len(values)  # ties stay broken
            assert float(values.detach().max()) <= gates.highest
            assert torch.equal(gates.test_gate(values), torch.ones_like(values))
    with pytest.raises(L0GateError, match=r"`highest` is 2\.4; it must be above 2\.408"):
        gated_model(warm_start=True, gates=HardConcrete(highest=2.4))
