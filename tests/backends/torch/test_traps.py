"""Models that would be made small wrongly, if nobody looked: each is right, or refused."""

from __future__ import annotations

import copy
import math
import random
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.utils.checkpoint import checkpoint
from torch_models import assert_close, set_gates

import l0gate
from l0gate import L0GateError

WORDS = torch.randint(11, (5, 3), generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 6)
        self.rnn = nn.GRU(6, 8, 2)
        self.out = nn.Linear(8, 4)

    def hidden(self, x: Tensor) -> Tensor:
        y: Tensor = self.rnn(self.table(x))[0]
        return y

    def forward(self, x: Tensor) -> Any:
        return self.out(self.hidden(x))


def gated_of(model: nn.Module, inputs: Any = WORDS) -> Any:
    gated = l0gate.gate(model, example_inputs=inputs, strength=1e-3)
    set_gates(gated)
    return gated.eval()


# A copy that runs the original ----------------------------------------------------------------


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(11, 6), nn.GRUCell(6, 8)
        self.start, self.out = nn.Parameter(torch.zeros(8)), nn.Linear(8, 4)
        self.advance: Callable[..., Tensor] = lambda x, h: self.cell(x, h)

    def forward(self, x: Tensor) -> Any:
        h = self.start.expand(x.shape[1], -1)
        for x_t in self.table(x):
            h = self.advance(x_t, h)
        return self.out(h)


def test_a_closure_over_the_original_is_refused() -> None:
    with pytest.raises(L0GateError, match="a copy of the model runs 'cell' of the original"):
        gated_of(Cells())
    model = Base()
    model.forward = torch.autocast("cpu", enabled=False)(model.forward)  # type: ignore[method-assign]
    with pytest.raises(L0GateError, match="a copy of the model runs 'table' of the original"):
        gated_of(model)
    assert not model.table._forward_pre_hooks


# What looks like a chain ----------------------------------------------------------------------


class Clamped(Base):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).clamp(-1e6, 1e6)


class Calibrated(Base):
    temperature = 1.0

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) / self.temperature


class Flipped(Base):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.flip(0))


@pytest.mark.parametrize("model", [Clamped, Calibrated, Flipped])
def test_what_only_looks_like_a_chain_does_not_run_as_one(
    model: type[Base], tmp_path: Path
) -> None:
    zeros = torch.zeros(5, 3, dtype=torch.long)
    small = gated_of(model(), zeros if model is Flipped else WORDS).shrink()
    l0gate.save(tmp_path / "small.npz", small)
    with pytest.raises(L0GateError, match="is not a chain of"):
        l0gate.load(tmp_path / "small.npz")
    assert torch.equal(l0gate.load(tmp_path / "small.npz", into=model).eval()(WORDS), small(WORDS))


def test_a_single_step_of_a_single_sequence_tells_no_orientation(tmp_path: Path) -> None:
    model = Base()
    model.rnn = nn.GRU(6, 8, 2, batch_first=True)
    small = gated_of(model, WORDS[:1, :1]).shrink()
    l0gate.save(tmp_path / "small.npz", small)
    y, _ = l0gate.load(tmp_path / "small.npz")(WORDS.numpy())
    np.testing.assert_allclose(y, small(WORDS).detach(), rtol=1e-4, atol=1e-6)


# Gradients ------------------------------------------------------------------------------------


class Recomputed(Base):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def hidden(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().hidden(x)
        run: Any = checkpoint(super().hidden, x, use_reentrant=self.reentrant)
        return run


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_inside_are_refused(reentrant: bool) -> None:
    gated = gated_of(Recomputed(reentrant)).train()
    with pytest.raises(L0GateError, match=r"calls torch\.utils\.checkpoint in its `forward`"):
        gated(WORDS)
    checkpoint(gated.model.out, torch.ones(8), use_reentrant=reentrant)  # elsewhere it works


def test_a_checkpoint_around_the_whole_has_the_same_gradients() -> None:
    gated = gated_of(Base()).train()
    twin = copy.deepcopy(gated)
    gated(WORDS).square().mean().backward()
    checkpoint(twin, WORDS, use_reentrant=False).square().mean().backward()
    for ours, theirs in zip(gated.parameters(), twin.parameters(), strict=True):
        assert_close(theirs.grad, ours.grad)


# Outputs --------------------------------------------------------------------------------------


class ActorCritic(Base):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.hidden(x)
        return Categorical(logits=self.out(y) / math.sqrt(y.shape[-1])), self.value(y)


class Choices(Base):
    def forward(self, x: Tensor) -> Any:
        z = super().forward(x)
        return z, z.argmax(-1)


def test_outputs_of_any_class_are_compared() -> None:
    with pytest.warns(UserWarning, match="tried on random gates"):
        gated = gated_of(ActorCritic())
    assert set(gated.frozen) == {"h1"}
    assert_close(gated.shrink()(WORDS)[0].probs, gated(WORDS)[0].probs)


def test_integers_that_follow_from_the_outputs_stay_the_same() -> None:
    gated = gated_of(Choices())
    assert gated.frozen == {}
    assert torch.equal(gated.shrink()(WORDS)[1], gated(WORDS)[1])


# What a model keeps ---------------------------------------------------------------------------


def test_hooks_follow_into_the_small_model() -> None:
    model, calls = Base(), []
    model.rnn.register_forward_hook(lambda m, a, o: (o[0].clamp(-0.01, 0.01), o[1]))
    model.rnn.register_forward_pre_hook(lambda m, a: calls.append(type(m).__name__))
    gated = gated_of(model)
    small = gated.shrink()
    assert type(small.rnn).__name__ == "RaggedRNN"
    calls.clear()
    assert_close(small(WORDS), gated(WORDS))
    assert calls == ["RaggedRNN", "GRU"]


class Averages(Base):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Any:
        y = self.hidden(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean((0, 1))
        return self.out(y - self.mean)


def test_a_buffer_assigned_in_training_is_kept() -> None:
    model = Averages()
    dense = copy.deepcopy(model).train()
    gated = l0gate.gate(model, example_inputs=WORDS, strength=1e-3)
    with torch.no_grad():
        for log_alpha in gated.log_alpha.values():
            log_alpha.fill_(5.0)
    for _ in range(3):
        gated.train()(WORDS)
        dense(WORDS)
    assert bool(dense.mean.any())
    assert torch.allclose(gated.model.mean, dense.mean, atol=0.02)


class Streams(Base):
    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8)
        self.register_buffer("state", torch.zeros(1, 3, 8))

    def hidden(self, x: Tensor) -> Tensor:
        y, state = self.rnn(self.table(x), self.state)
        self.state.copy_(state)
        return y  # type: ignore[no-any-return]


def test_gating_leaves_the_state_of_the_model_alone() -> None:
    model = Streams().eval()
    gated = gated_of(model)
    gated.shrink()
    assert not bool(model.state.any())


class Forced(Base):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * (2.0 if random.random() < 0.5 else 1.0)


class Edits(Base):
    def forward(self, x: Tensor, scale: Tensor) -> Any:  # type: ignore[override]
        scale.mul_(2)
        return super().forward(x) * scale


def test_random_numbers_and_edited_inputs_are_the_same_in_every_run() -> None:
    before = random.getstate()
    gated = gated_of(Forced())
    assert gated.frozen == {}
    gated.shrink()
    assert random.getstate() == before
    inputs = WORDS, torch.ones(1)
    gated = gated_of(Edits(), inputs)
    assert gated.frozen == {}
    gated.shrink()
    assert float(inputs[1]) == 1


# Inputs as people have them --------------------------------------------------------------------


class Batch(UserDict[str, Tensor]):
    """As tokenizers return them: a mapping with attributes."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Record:
    words: Tensor
    extra: Tensor | None = None


class Wrapped(Base):
    """Notes the words that it is run on, in a list that its copies share."""

    runs: ClassVar[list[Tensor]] = []

    def forward(self, batch: Any) -> Any:
        self.runs.append(batch.words.clone())
        return self.out(self.hidden(batch.words))


@pytest.mark.parametrize("inputs", [Batch({"words": WORDS}), Record(WORDS)])
def test_inputs_keep_their_classes(inputs: Any) -> None:
    gated = gated_of(Wrapped(), (inputs,))
    Wrapped.runs.clear()
    small = gated.shrink()
    # Tried on the example, then on words drawn at random in its place.
    assert torch.equal(Wrapped.runs[0], WORDS)
    assert any(not torch.equal(words, WORDS) for words in Wrapped.runs)
    assert all((words.shape, words.dtype) == (WORDS.shape, WORDS.dtype) for words in Wrapped.runs)
    assert_close(small(inputs), gated(inputs))
    assert inputs.words is WORDS


class Masked(Base):
    """Attention over time with a mask that is added."""

    runs: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        self.runs.append((x.clone(), mask.clone()))
        y = self.hidden(x)
        weights = torch.softmax(self.out(y)[..., 0] + mask, dim=0)
        return self.out((weights[..., None] * y).sum(0))


def test_masks_that_are_added_stay_as_they_are() -> None:
    mask = torch.zeros(WORDS.shape).masked_fill(torch.arange(5)[:, None] > 2, -math.inf)
    gated = gated_of(Masked(), (WORDS, mask))
    Masked.runs.clear()
    assert gated.shrink().certificate.max_abs_difference < 1e-12
    assert any(not torch.equal(words, WORDS) for words, _ in Masked.runs)
    assert all(torch.equal(found.to(mask), mask) for _, found in Masked.runs)


def test_a_small_model_made_in_inference_mode_can_be_trained() -> None:
    gated = gated_of(Base())
    with torch.inference_mode():
        small = gated.shrink()
    small(WORDS).sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_data_parallel_is_refused() -> None:
    with pytest.raises(L0GateError, match=r"wrapped in DataParallel; gate .* `model.module`"):
        gated_of(nn.DataParallel(Base()))
    with pytest.raises(L0GateError, match="use DistributedDataParallel"):
        gated_of(Base())._replicate_for_data_parallel()
