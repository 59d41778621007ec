"""LSTM and GRU nets in plain NumPy, forward and backward, with numba where it is installed."""

from __future__ import annotations

from l0gate.reference._build import set_num_threads
from l0gate.reference._cells import gru_scan, gru_scan_backward, lstm_scan, lstm_scan_backward
from l0gate.reference._losses import mean_squared_error, softmax_cross_entropy
from l0gate.reference._net import Net
from l0gate.reference._objective import (
    expected_size,
    hard_concrete_open_probability,
    hard_concrete_sample,
    hard_concrete_test_gate,
    l0_objective,
)
from l0gate.reference.runtime.bound_net import StreamingNet
from l0gate.reference.runtime.stream import Stream

__all__ = [
    "Net",
    "Stream",
    "StreamingNet",
    "expected_size",
    "gru_scan",
    "gru_scan_backward",
    "hard_concrete_open_probability",
    "hard_concrete_sample",
    "hard_concrete_test_gate",
    "l0_objective",
    "lstm_scan",
    "lstm_scan_backward",
    "mean_squared_error",
    "set_num_threads",
    "softmax_cross_entropy",
]
