"""`NumpyBackend`: the backend interface (`l0gate._backend`) for NumPy and `l0gate.reference`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from l0gate._backend import Array, Backend
from l0gate._chain import Chain
from l0gate._saved_model import SavedModel


class NumpyBackend(Backend):
    """The backend for NumPy arrays and for nets of `l0gate.reference`.

    NumPy has no autodiff. `l0gate.reference.Net` returns the gradients of the gated parameters,
    `Pruner.pullback` turns them into gradients of parameters and gates, and
    `Pruner.penalty_gradient` returns those of the penalty.
    """

    name: ClassVar[str] = "numpy"
    capabilities: ClassVar[frozenset[str]] = frozenset({"nets"})
    xp: Any = np
    array_type = (np.ndarray, np.generic)

    def cast(self, x: Array, dtype: str) -> Array:
        return np.asarray(x).astype(dtype, copy=False)

    def owns_model(self, model: object) -> bool:
        from l0gate.reference import StreamingNet

        return isinstance(model, StreamingNet)

    def net(self, layers: list[dict[str, Any]], batch_first: bool = False) -> Any:
        from l0gate.reference import Net

        return Net(layers, batch_first=batch_first)

    def describe(self, model: Any) -> SavedModel:
        if isinstance(model.saved, SavedModel):
            return model.saved
        chain = Chain(model.net.layers, model.net.batch_first)
        small = chain.layout.solve(model.parameters)
        kept = {axis: (np.arange(size), size) for axis, size in small.items()}
        if model.kept is not None:
            kept |= {a: k for a, k in zip(chain.state_axes, model.kept, strict=True) if a in kept}
        if model.input_kept is not None and chain.input_axis is not None:
            kept[chain.input_axis] = model.input_kept
        return SavedModel(
            parameters=model.parameters,
            layout=chain.layout,
            kept={axis: index for axis, (index, _) in kept.items()},
            dense_sizes={axis: dense for axis, (_, dense) in kept.items()},
            chain=chain,
        )
