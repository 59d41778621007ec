"""A gated model is saved, resumed, copied and moved as any module is."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_loops import adam, assert_same_state, gated_model, noise_of, step, train_language
from torch_models import assert_close, gated_language, tokens

from l0gate import Budget

pytestmark = [
    pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*open neurons were cut:UserWarning"),
]


def test_state_dicts_are_strict_and_complete() -> None:
    gated, other = gated_model(seed=2**64 - 1), gated_model(seed=3)
    for k in range(4):
        step(gated, adam(gated), k / 4)
    file = io.BytesIO()
    torch.save(gated.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(other, gated)
    assert other.gates.rng == gated.gates.rng
    assert other.gates.rng[0] == 2**64 - 1
    step(gated, adam(gated), 0.9)
    step(other, adam(other), 0.9)
    assert_same_state(other, gated)
    assert torch.equal(noise_of(other), noise_of(gated))
    incomplete = gated.state_dict()
    del incomplete["gates.log_alpha_h0"]
    with pytest.raises(RuntimeError, match=r"Missing key.*gates\.log_alpha_h0"):
        other.load_state_dict(incomplete)


def test_training_resumes_with_the_same_numbers() -> None:
    def fresh() -> tuple[Any, Any, Any]:
        gated = gated_model(warm_start=True, distill=True, seed=2**63 + 5)
        optimizer = adam(gated)
        return gated, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def go_on(gated: Any, optimizer: Any, scheduler: Any, first: int, last: int) -> None:
        for k in range(first, last):
            optimizer.zero_grad()
            (gated.distill(tokens(seed=k)) + gated.penalty((k + 1) / 10)).backward()
            optimizer.step()
            scheduler.step()

    go_on(*(whole := fresh()), 0, 10)
    for stop in (1, 5, 7):  # in the warm-up, before and after the selection
        go_on(*(part := fresh()), 0, stop)
        file = io.BytesIO()
        torch.save([piece.state_dict() for piece in part], file)
        file.seek(0)
        other = fresh()
        for piece, saved in zip(other, torch.load(file, weights_only=True), strict=True):
            piece.load_state_dict(saved)
        go_on(*other, stop, 10)
        assert_same_state(other[0], whole[0])


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
@pytest.mark.parametrize("stop", [1, 5, 9])
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_going_on_from_a_copy_gives_the_same_numbers(stop: int, way: str) -> None:
    def fresh() -> tuple[Any, Any]:
        gated = gated_language(Budget(parameters=0.5, settle=0.6))
        return gated, torch.optim.Adam(gated.param_groups(lr=1e-2))

    whole, optimizer = fresh()
    train_language(whole, optimizer, 0, 12, 12)
    part, optimizer = fresh()
    train_language(part, optimizer, 0, stop, 12)
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
    train_language(other, other_optimizer, stop, 12, 12)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert other.shrink().certificate.kept.keys() == whole.pruner.sizes.keys()


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(way: Callable[[Any], Any]) -> None:
    gated = gated_model(distill=True)
    step(gated, adam(gated), 0.2)
    other = way(gated)
    x = tokens(seed=1)
    drawn = gated.gates.rng
    assert other.training
    expected = gated(x)[0]
    if way is not copy.copy:  # which shares its gates, and so their generator
        assert other.gates.rng == drawn
        assert_close(other(x)[0], expected)
    assert_close(other.eval()(x)[0], gated.eval()(x)[0])
    assert_close(other.distill(x), gated.distill(x))


def test_nothing_assumes_the_cpu() -> None:
    gated = gated_model(distill=True).to("meta")
    x = tokens().to("meta")
    for training in (True, False):
        y, state = gated.train(training)(x)
        assert {t.device.type for t in (y, *state)} == {"meta"}
    assert gated.distill(x).device.type == "meta"
    assert {u.device.type for u in gated._noise.values()} == {"meta"}
    moved = gated.to_empty(device="cpu")
    moved.load_state_dict(gated_model().state_dict())
    assert moved.log_alpha["h0"].dtype == torch.float32
    assert_close(moved(tokens())[0], gated_model().eval()(tokens())[0])
