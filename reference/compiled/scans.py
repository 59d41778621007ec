"""The scans of `_cells.py`, compiled with numba: same signatures (but no `gate`), same results.

They keep a tape, for training; `Program` runs whole nets without one. Threads share a scan by
sequences: each takes its rows through all time steps, so that nothing waits inside the loop over
time. Bounds in kernels read `limit if x > limit else x`, so that a NaN stays one.
"""

from l0gate.reference.compiled.inference.program import Program
from l0gate.reference.compiled.threads import set_num_threads
from l0gate.reference.compiled.training.gru import gru_scan, gru_scan_backward
from l0gate.reference.compiled.training.lstm import lstm_scan, lstm_scan_backward

__all__ = [
    "Program",
    "gru_scan",
    "gru_scan_backward",
    "lstm_scan",
    "lstm_scan_backward",
    "set_num_threads",
]
