"""The small model: from a gate state to plain modules without the closed neurons.

In reading order:

- `shrink`: the walk from a gate state to the small model, through the modules below
- `recurrent_axes`: which axes the states of each recurrent module run over, and which must keep
  equal counts
- `resize`: small arrays into a copy of the dense model, whose modules are made to fit them
- `ragged`: `RaggedRNN`, a recurrent module with unequal hidden sizes
- `dense_adapters`: hooks that accept states and inputs of the dense size
- `certify`: runs the gated and the small model on the same inputs
- `files`: what `l0gate.save` writes of a small model, and what `l0gate.load` rebuilds
"""
