"""NumPy: arrays as they are, derivatives and nets from `l0gate.reference`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from l0gate._archive import SavedModel
from l0gate._chain import Chain
from l0gate._tensor import Array, Backend


class NumpyBackend(Backend):
    """Drives NumPy arrays; there is no autodiff, so `Pruner.pullback` and
    `Pruner.penalty_gradient` carry the derivatives of a `l0gate.reference.Net` to the gates."""

    name: ClassVar[str] = "numpy"
    capabilities: ClassVar[frozenset[str]] = frozenset({"nets", "models"})
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
        sizes = chain.layout.solve(model.parameters)
        return SavedModel(
            parameters=model.parameters,
            layout=chain.layout,
            kept={axis: np.arange(size) for axis, size in sizes.items()},
            dense_sizes=sizes,
            chain=chain,
        )
