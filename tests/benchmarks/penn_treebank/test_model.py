"""The language models."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.mark.parametrize("sizes", [(4, 5, 5), (4, 3, 5)])
def test_a_state_carries_the_text_on(load: Any, sizes: tuple[int, int, int]) -> None:
    model = load("model")
    torch.manual_seed(0)
    network = model.LanguageModel(7, sizes, dropout=0.0, scale=0.1)
    assert model.layer_sizes(network) == list(sizes)
    x = torch.randint(7, (6, 2))
    expected, _ = network(x)
    first, state = network(x[:4])
    second, _ = network(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), expected)
    assert expected.shape == (6, 2, 7)
