"""The plan of a net: a table of integers that tells compiled code which layers to run.

`Program` writes it, `net_kernels.py` reads it. It is one array of int64: HEAD numbers for the whole
net, then COLUMNS numbers for each layer and direction, in order.
"""

from __future__ import annotations

# The kinds of layers. The first three are recurrent; a plain GRU has `reset_after`.
LSTM, GRU, GRU_RESET_BEFORE, LINEAR, TANH, SIGMOID, RELU = range(7)

# The head: the number of rows of the table; the most features that a layer but the last writes; the
# most neurons of a state, padded to whole vectors; whether activations are exact; whether the
# weights take more than `NEAR` bytes; and the address of the packed parameters.
ROWS, WIDEST, WIDEST_STATE, EXACT, FAR, PARAMETERS = range(6)
HEAD = 6

# A row of the table: the kind of layer; how many features it reads and writes; where its parameters
# begin; whether it runs backward in time; the column of the layer's output where its own output
# begins, and how many columns that output has; whether it is the last direction of its layer, and
# whether the layer is the last.
KIND, INPUTS, OUTPUTS, START, REVERSE, COLUMN, WIDTH, LAST, FINAL = range(9)
COLUMNS = 9
