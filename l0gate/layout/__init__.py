"""The axis notation: which neurons the dimensions of every parameter run over.

In reading order:

- `notation`: patterns such as `(4 h0) <- x`, parsed and printed
- `layout`: `Layout`, a pattern for every parameter; who reads and who writes an axis
- `solve`: the size of every axis, from the shapes of the arrays
- `fold`: multiplying gates into parameters, removing neurons, weight norms per neuron
- `cost`: the cost for given numbers of open neurons, and the expected cost
- `stacked`: patterns of stacked LSTM and GRU layers
- `cycles`: which axes are recurrent
- `table`: the axes as text
"""
