"""PyTorch: arrays, autodiff, nets, and gates in models of the user's own.

In reading order; `l0gate.gate` goes through `tracing`, `gating` and `shrinking` in turn:

- `backend`: `TorchBackend`, the abstract tensor interface for torch
- `pytree`: the tensors of a model, and those inside its arguments and outputs
- `isolation`: running a model without a trace in it, in random generators or in the process
- `examples`: example inputs, more inputs like them, and what a run of the model on them shows
- `tracing`: derives a layout from one run of the model
- `gating`: the gated model, in training
- `shrinking`: the small model, its certificate and its file
- `chain`: finds whether a whole model is a chain of layers, which needs no torch to run
- `net`: runs such a chain on tensors
"""

from l0gate.backends._torch.backend import TorchBackend

__all__ = ["TorchBackend"]
