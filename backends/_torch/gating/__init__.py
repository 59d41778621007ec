"""The gated model: how it is made from a user's model, and how it is trained.

In reading order:

- `gate_model`: makes the gated model, with the modules below
- `study`: derives or checks the layout, and runs the model on example inputs
- `trial`: shrinks the model with random gates, so that a wrong layout is found before training
- `module`: `GatedModule`, the gated model itself
- `state`: the gate state as parameters and buffers; warm start
- `linear`: multiplies gates into the input of a linear layer if that is smaller than its weight
- `distill`: distillation from a copy of the original model
- `moments`: second moments of neurons, gathered at their readers while a model runs
- `calibration`: cuts a trained model without training, by errors on calibration data
"""
