"""Streams and chunks: every token has its next one as target."""

from __future__ import annotations

import numpy as np
import pytest

from l0gate.cli._batches import chunks, steps_per_epoch, streams


def test_streams_keep_the_order_of_the_text():
    data = streams(np.arange(20), 3)
    x, y = (np.concatenate(parts) for parts in zip(*chunks(data, 4), strict=True))
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(x[:, 1], np.arange(6, 11))


@pytest.mark.parametrize(
    ("tokens", "steps"), [(17, 0), (18, 1), (33, 1), (34, 2), (35, 2), (50, 3)]
)
def test_an_epoch_has_a_next_token_for_every_one(tokens: int, steps: int) -> None:
    assert steps_per_epoch(tokens, 2, 8) == steps
    inputs = [x for x, _ in chunks(streams(np.arange(tokens), 2), 8) if len(x) == 8]
    assert len(inputs) == steps
