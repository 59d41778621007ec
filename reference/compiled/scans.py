"""The entry to compiled code: `engine="numba"` imports this module.

The four scans have the signatures of `_lstm.py` and `_gru.py` without `gate`, and the same results.
They keep a tape, for training. `Program` runs whole nets without a tape. The sequences of a batch
are divided among threads. Each thread runs its sequences through all time steps, so that no thread
waits for another inside the loop over time. Limits in kernels are written
`limit if x > limit else x`, so that a NaN stays a NaN.
"""

from l0gate.reference.compiled.inference.program import Program
from l0gate.reference.compiled.training.gru import gru_scan, gru_scan_backward
from l0gate.reference.compiled.training.lstm import lstm_scan, lstm_scan_backward

__all__ = [
    "Program",
    "gru_scan",
    "gru_scan_backward",
    "lstm_scan",
    "lstm_scan_backward",
]
