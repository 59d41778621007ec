"""Engines: which scans run, what is said without numba, and the number of threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from l0gate import L0GateError
from l0gate.reference import set_num_threads
from l0gate.reference._engine import NUMPY, find_engine


def test_engines_are_what_they_are_called() -> None:
    assert find_engine("numpy") is NUMPY
    compiled = find_engine("numba")
    assert compiled == find_engine("auto") != NUMPY
    assert NUMPY.program is None
    assert compiled.program is not None
    for scans in (NUMPY, compiled):
        assert scans.lstm_scan.__name__ == "lstm_scan"
        assert scans.lstm_scan_backward.__name__ == "lstm_scan_backward"
        assert scans.gru_scan.__name__ == "gru_scan"
        assert scans.gru_scan_backward.__name__ == "gru_scan_backward"


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(L0GateError, match="`engine` is 'gpu'; allowed: auto, numpy, numba"):
        find_engine("gpu")


def test_the_number_of_threads_is_checked() -> None:
    with pytest.raises(L0GateError, match="`threads` is 0"):
        set_num_threads(0)


def _python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return result.stdout.strip()


NET = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import numpy as np
from l0gate.reference import Net
net = Net([{"type": "lstm", "name": "rnn"}])
parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
"""


def test_without_numba_auto_is_numpy() -> None:
    code = NET + "print(net.apply(parameters, np.ones((4, 1, 2)))[0].shape)"
    assert _python(code) == "(4, 1, 3)"


def test_without_numba_asking_for_it_is_an_error() -> None:
    code = NET + (
        "try:\n    net.apply(parameters, np.ones((4, 1, 2)), engine='numba')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    message = _python(code)
    assert message.startswith("L0GateError `engine` is 'numba', which needs numba")
    assert "pip install 'l0gate[fast]'" in message
