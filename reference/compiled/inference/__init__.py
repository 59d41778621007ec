"""Whole nets as one compiled call, without a tape. In reading order:

- `program`: `Program`, which packs the parameters of a net and runs it
- `plan`: the table of integers that tells compiled code which layers to run
- `net_kernels`: whole nets: sequences, a step, a step in place
- `step_kernels`: the time steps of an LSTM or GRU layer
- `feedforward_kernels`: linear layers, activations, and the input products of recurrent layers
- `packing`: how weights are packed in memory
"""
