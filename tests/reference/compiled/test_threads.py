"""Threads: their number is checked, and a fork makes its own."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from compiled_cases import CASES, assert_close, lstm, make

from l0gate import L0GateError
from l0gate.reference.compiled import scans, threads


def test_the_number_of_threads_is_checked():
    with pytest.raises(L0GateError, match="`threads` is 0"):
        threads.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_makes_its_own_threads(monkeypatch):
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    monkeypatch.setattr(threads, "_threads", 2)
    arrays, options = make(CASES["wide"], 4, np.float32)
    expected = lstm(scans, arrays, options)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for its parent's threads would wait for ever
        status = 1
        try:
            assert_close(lstm(scans, arrays, options), expected, np.float32)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [1, 4, 9, 30])
def test_every_sequence_is_computed_once(count, batch, monkeypatch):
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    monkeypatch.setattr(threads, "_threads", count)
    seen = np.zeros(batch, int)

    def call(first, last, step):
        seen[first:last] += step
        return "done"

    assert threads.run_on_threads(call, 1, batch, 10, 1) == "done"
    assert (seen == 1).all()
