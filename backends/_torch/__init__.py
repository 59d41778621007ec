"""The PyTorch backend: arrays, autodiff, nets, and gates in any `nn.Module`.

In reading order. `l0gate.gate` runs `tracing` and `gating`; `GatedModule.shrink` runs `shrinking`:

- `backend`: `TorchBackend`, the abstract tensor interface for torch
- `pytree`: the tensors of a model, and those inside its arguments and outputs
- `isolation`: runs a model without side effects on it, on random generators or on the process
- `kept_state`: state that a model keeps from call to call, in buffers or plain attributes
- `computed_weights`: weights that are computed in every call, and how to make them parameters
- `prunable_norm`: `PrunableLayerNorm`, a LayerNorm whose neurons can be removed
- `examples`: example inputs, random inputs like them, and what a run of the model on them shows
- `tracing`: derives a layout from one run of the model
- `recurrent_axes`: the axes of the states of each recurrent module, and which must keep equal
  counts
- `gating`: the gated model and its training
- `shrinking`: the small model, its certificate and its file
- `chain`: finds out whether the whole model is a chain of layers, which can run without torch
- `net`: runs such a chain on tensors
- `chain_model`: such a chain as a module, to train, gate and shrink
"""

from l0gate.backends._torch.backend import TorchBackend

__all__ = ["TorchBackend"]
