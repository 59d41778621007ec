"""Random compositions of blocks: shrunk, saved and loaded, they compute what the gated one does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import set_gates
from torch_shapes import (
    BATCH,
    EXPECTED_WARNINGS,
    FLOATS,
    STEPS,
    WORDS,
    X_IN,
    X,
    assert_same,
)

import l0gate

pytestmark = EXPECTED_WARNINGS


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
        warnings.filterwarnings("error", message="these parts of the model are frozen")
        gated = l0gate.gate(model, example_inputs=x, strength=1e-3).eval()
    assert gated.frozen == {}
    set_gates(gated, plan["gates"], plan["seed"])
    small = gated.shrink(equal=equal)
    assert_same(small(x), gated(x), small.certificate)
    l0gate.save(file, small)
    loaded = l0gate.load(file, into=lambda: Composed(plan).double()).eval()
    assert torch.equal(loaded(x), small(x))
