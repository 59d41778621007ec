"""The tokens of a text as parallel streams, cut into chunks of inputs and targets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def streams(tokens: np.ndarray, batch: int) -> np.ndarray:
    """The tokens as `batch` parallel streams: shape (time, batch).

    Stream j is the j-th part of the text. Up to `batch` - 1 tokens at the end are dropped.

    >>> streams(np.arange(7), 2)
    array([[0, 3],
           [1, 4],
           [2, 5]])
    """
    steps = len(tokens) // batch
    return np.ascontiguousarray(tokens[: steps * batch].reshape(batch, steps).T)


def chunks(stream: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inputs and targets (the next tokens), `length` time steps at a time.

    The last chunk may be shorter.
    """
    for start in range(0, len(stream) - 1, length):
        stop = min(start + length, len(stream) - 1)
        yield stream[start:stop], stream[start + 1 : stop + 1]


def steps_per_epoch(tokens: int, batch: int, length: int) -> int:
    """How many chunks of full length the streams have. Training drops a shorter last chunk."""
    return (tokens // batch - 1) // length
