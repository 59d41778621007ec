"""The models whose training steps are compared."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")


CLAIM = "gated_torch_step_costs_little_more_than_dense"


@pytest.mark.usefixtures("one_thread")
def test_the_loop_is_the_same_model(load: Any) -> None:
    torch.manual_seed(0)
    claim = load(CLAIM)
    loop, dense = claim.Loop(6), claim.Language(6)
    dense.load_state_dict(loop.state_dict(), strict=False)
    tokens = torch.randint(claim.VOCABULARY, (5, 3))
    with torch.no_grad():
        loop.log_alpha.fill_(50.0)  # every gate is 1
        torch.testing.assert_close(loop(tokens), dense(tokens), rtol=1e-4, atol=1e-6)
        loop.log_alpha.fill_(-50.0)  # every gate is 0
        torch.testing.assert_close(loop(tokens), loop.decoder.bias.expand(5, 3, -1))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("name", ["dense", "gated", "loop"])
def test_a_step_of_the_benchmark_trains(
    load: Any, name: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = load(CLAIM)
    monkeypatch.setattr(claim, "VOCABULARY", 20)
    losses: list[float] = []
    whole = torch.nn.functional.cross_entropy

    def noted(*args: Any) -> torch.Tensor:
        losses.append(float(whole(*args).detach()))
        return whole(*args)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    run = claim.step(name, 16, optimizer, "cpu")
    for _ in range(60):
        run()
    assert losses[0] == pytest.approx(math.log(20), rel=0.1)
    assert losses[-1] < losses[0]
