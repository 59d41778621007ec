"""The gated model: from a user's model to one whose neurons have gates, and its training.

In reading order:

- `gate_model`: the walk from a model to the gated one, through the modules below
- `study`: derives or checks the layout, and runs the model on example inputs
- `trial`: shrinks the model with random gates, so that a wrong layout is found before training
- `module`: `GatedModule`, the gated model itself
- `state`: gates and controller as parameters and buffers; warm start
- `linear`: gates at the input of a linear layer, where that is smaller than its weight
- `distill`: the original model as a teacher
"""
