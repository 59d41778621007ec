"""Gated models in training, for several test files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import Language, tokens

import l0gate
from l0gate import Budget


def gated_model(model: nn.Module | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    options = {"budget": Budget(parameters=0.5), "example_inputs": tokens(), **options}
    return l0gate.gate(model or Language(), **options).train()


def loss_of(gated: Any, x: Tensor) -> Tensor:
    return gated(x)[0].square().mean()


def noise_of(gated: Any) -> Tensor:
    """The noise of this step, drawn if it must be."""
    gated(tokens())
    return torch.cat(list(gated._noise.values())).clone()


def adam(gated: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(gated.param_groups(lr=1e-2), **options)


def step(gated: Any, optimizer: torch.optim.Optimizer, progress: float, seed: int = 0) -> float:
    loss = loss_of(gated, tokens(seed=seed)) + gated.penalty(progress)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def assert_same_state(found: nn.Module, expected: nn.Module) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def settled(gated: Any) -> Any:
    """With its gates decided, as `shrink` decides them."""
    gated.gates.write(gated.pruner.settle(gated.gates.read(), gated._tensors()))
    return gated


def train_language(gated: Any, optimizer: Any, start: int, stop: int, total: int) -> float:
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
