"""The plan of a net: a table of integers that lists the layers for the kernels.

`Program` writes it, `net_kernels.py` reads it. It is one array of int64: HEAD numbers for the whole
net, then a row of COLUMNS numbers for each layer and direction, in order. The names below are
positions in the head and in a row.
"""

from __future__ import annotations

# The kinds of layers. The first three are recurrent; a plain GRU has `reset_after`.
LSTM, GRU, GRU_RESET_BEFORE, LINEAR, TANH, SIGMOID, RELU = range(7)

# The head: the number of rows; the largest number of output features of all layers but the last;
# the largest hidden size, padded to whole vectors; whether activations are exact; whether the
# weights take more than `NEAR` bytes; the address of the packed parameters.
ROWS, WIDEST, WIDEST_STATE, EXACT, FAR, PARAMETERS = range(6)
HEAD = 6

# A row: the kind of layer; the numbers of input and output features of this direction; the position
# of its parameters; whether it runs backward in time; the first of its columns in the output of the
# layer, in which the directions are concatenated, and the number of columns of that output; whether
# this is the last direction of its layer; whether the layer is the last.
KIND, INPUTS, OUTPUTS, START, REVERSE, COLUMN, WIDTH, LAST, FINAL = range(9)
COLUMNS = 9
