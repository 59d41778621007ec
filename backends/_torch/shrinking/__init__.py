"""From a gate state to the small model: plain modules without the closed neurons.

In reading order:

- `shrink`: makes the small model and its certificate, with the modules below
- `resize`: puts the small arrays into a copy of the dense model, and sets the sizes of its modules
- `ragged`: `RaggedRNN`, a recurrent module with unequal hidden sizes
- `dense_adapters`: hooks that let the small model take states and inputs of the dense size
- `certify`: runs the gated and the small model on the same inputs
- `files`: what `l0gate.save` writes of a small model, and what `l0gate.load` rebuilds
"""
