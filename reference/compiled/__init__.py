"""The computations of the oracle, compiled with numba. In reading order:

- `scans`: the entry, which `engine="numba"` imports
- `training/`: the scans of LSTM and GRU, forward and backward
- `inference/`: whole nets as one compiled call, for sequences and single steps
- `simd/`: what kernels do with vector registers
- `compile`: how a kernel is compiled and kept on disk
- `arguments`, `lengths`: what kernels are given
- `threads`: how threads share the sequences of a batch
"""
