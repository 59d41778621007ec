"""The entry to compiled code: what `engine="numba"` runs.

The four scans have the same signatures as in `_lstm.py` and `_gru.py`, except for `gate`, and the
same results. They keep a tape, for training; `Program` runs whole nets without one. Threads share a
call by sequences: each takes its own through all time steps, so that none waits for another inside
the loop over time. Limits in kernels are written `limit if x > limit else x`, so that a NaN stays
one.
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
