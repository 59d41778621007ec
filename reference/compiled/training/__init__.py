"""Compiled scans with a tape, forward and backward. In reading order:

- `lstm`: the LSTM over a sequence
- `gru`: the GRU over a sequence
- `panels`: products with a matrix that is packed into panels
- `loops`: elementwise loops over neurons
"""
