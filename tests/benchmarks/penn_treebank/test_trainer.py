"""Training steps and perplexity."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_perplexity_of_equal_scores_is_the_size_of_the_vocabulary(load: Any, corpus: Any) -> None:
    trainer = load("trainer").Trainer(load("options").Options("tiny"), corpus)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    assert trainer.perplexity(corpus.valid) == pytest.approx(corpus.words)


@pytest.mark.filterwarnings("ignore:the gates")
def test_the_cut_is_noted_once(load: Any, corpus: Any) -> None:
    options = load("options").Options("tiny", "l0", 0.5, shrink_early=True)
    trainer = load("trainer").Trainer(options, corpus)
    assert trainer.network is trainer.gated
    while not trainer.selected:
        assert trainer.cut is None
        trainer.train_step()
    cut = trainer.cut
    assert cut["step"] == trainer.step
    assert trainer.network is trainer.small
    trainer.train_step()
    assert trainer.cut is cut
