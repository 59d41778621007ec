"""The scans of `_lstm.py` and `_gru.py`, and whole nets, compiled with numba. In reading order:

- `scans`: the entry, which `engine="numba"` imports
- `training/`: the scans of LSTM and GRU, forward and backward
- `inference/`: whole nets as one compiled call, for sequences and single steps
- `simd/`: code for vector registers: activations, cells, matrix products
- `compile`: how a kernel is compiled and kept on disk
- `arguments`, `lengths`: prepare the arrays that kernels are given
- `threads`: divides the sequences of a batch among threads
"""
