"""PyTorch: arrays, autodiff, models and nets."""

from l0gate.backends._torch.backend import TorchBackend

__all__ = ["TorchBackend"]
