"""The engines take the same training step."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.usefixtures("one_thread")
def test_training_steps_agree(load: Any) -> None:
    training = load("training_steps_keep_up_with_torch")
    for cell in ("lstm", "gru"):
        calls = training.steps(cell, 4, 2, threads=1)
        training.check(calls)
        calls["gates"]()
