"""LSTM and GRU nets in plain NumPy, forward and backward, with numba where it is installed.

Read these first. They are written for clarity, close to the equations, and the faster code is
tested against them:

- `_scan`: what a scan over a sequence is, its shapes, and helpers of both cells
- `_lstm`: the LSTM over a sequence, forward and backward
- `_gru`: the GRU over a sequence, forward and backward
- `_engine`: chooses NumPy's scans or the compiled ones
- `_products`: matrix products over all positions, and their gradients
- `_layers`: the interface of layers; embedding, linear and activation layers
- `_recurrent`: recurrent layers, which run the scans
- `_activations`: the activation functions
- `_general_cells`: the cells of recurrent layers with any activation functions, forward only
- `_forward_only`: convolution, batch normalisation, joins of earlier outputs
- `_build`: builds the layers of a net from its description
- `_checks`: checks of the arguments of a net
- `_losses`: cross entropy, mean squared error and the divergence from a teacher, with gradients
- `_net`: `Net`, a chain of layers: initial parameters, forward, backward, loss
- `_moments`: the second moments of a net's neurons, for `Pruner.reconstruct`
- `_objective`: the L0 objective with its gradients: a second implementation of hard-concrete gates
  and the expected size, independent of `l0gate/_hard_concrete.py`, for tests

Then `runtime/`, nets bound to their parameters for inference, and `compiled/`, the same
computations as numba kernels. Their docstrings list their modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from l0gate._later import import_later
from l0gate.reference._engine import set_num_threads
from l0gate.reference._gru import gru_scan, gru_scan_backward
from l0gate.reference._losses import kl_divergence, mean_squared_error, softmax_cross_entropy
from l0gate.reference._lstm import lstm_scan, lstm_scan_backward
from l0gate.reference._net import Net
from l0gate.reference.runtime.bound_net import StreamingNet
from l0gate.reference.runtime.stream import Stream

if TYPE_CHECKING:
    from l0gate.reference._moments import second_moments
    from l0gate.reference._objective import (
        expected_size,
        hard_concrete_open_probability,
        hard_concrete_sample,
        hard_concrete_test_gate,
        l0_objective,
    )

__all__ = [
    "Net",
    "Stream",
    "StreamingNet",
    "expected_size",
    "gru_scan",
    "gru_scan_backward",
    "hard_concrete_open_probability",
    "hard_concrete_sample",
    "hard_concrete_test_gate",
    "kl_divergence",
    "l0_objective",
    "lstm_scan",
    "lstm_scan_backward",
    "mean_squared_error",
    "second_moments",
    "set_num_threads",
    "softmax_cross_entropy",
]
# Running a net does not need these. They are imported on first access, so that loading is quick.
__getattr__, __dir__ = import_later(
    __name__,
    __all__,
    {
        "expected_size": "_objective",
        "hard_concrete_open_probability": "_objective",
        "hard_concrete_sample": "_objective",
        "hard_concrete_test_gate": "_objective",
        "l0_objective": "_objective",
        "second_moments": "_moments",
    },
)
