"""Whole nets as one compiled call, without a tape. In reading order:

- `program`: `Program`, which packs the parameters of a net and runs it
- `plan`: a table of integers that lists the layers for the kernels
- `net_kernels`: kernels that run a net on sequences, for a step, or for a step in place
- `step_kernels`: the time steps of an LSTM or GRU layer
- `feedforward_kernels`: linear layers, activations, and the input products of recurrent layers
- `packing`: how weights are packed in memory
"""
