"""Signals like those of a guitar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scripts import modules_of


@pytest.fixture
def guitar() -> Iterator[Any]:
    with modules_of("examples/guitar_amp") as load:
        yield load("guitar")


def test_signals_repeat_and_vary(guitar: Any) -> None:
    first, again, other = (guitar.signal(1.0, seed) for seed in (5, 5, 6))
    assert first.dtype == np.float32
    assert first.shape == (44_100,)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert 0.01 < np.abs(first).max() <= 1


def test_a_plucked_string_has_its_pitch(guitar: Any) -> None:
    note = guitar.pluck(np.random.default_rng(0), 220.0, 44_100)
    spectrum = np.abs(np.fft.rfft(note))
    # The filter of the loop adds half a sample to a period that is rounded to whole samples.
    expected = 44_100 / (round(44_100 / 220) + 0.5)
    harmonics = np.argmax(spectrum) / expected
    assert abs(harmonics - round(harmonics)) < 0.02
    assert np.abs(note[-1000:]).max() < np.abs(note[:1000]).max()
