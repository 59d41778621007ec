"""Running a written file: by the program that it is for, or by reading it back."""

from __future__ import annotations

import numpy as np

from l0gate._saved_model import SavedModel

__all__ = ["ReadBack", "Runner", "run_net"]


class Runner:
    """Runs a written file, by the program that it is for or by one that stands for it.

    `name` says which program this is, for the user. A sequence starts from a state of zeros.
    """

    name = ""

    def sequence(self, x: np.ndarray) -> np.ndarray:
        """Outputs (T, O) for one sequence of tokens (T,) or features (T, I), in one call."""
        raise NotImplementedError

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        """The same, one time step a call. None if the file cannot be run so."""
        return None

    def close(self) -> None:
        """Free what the runner holds, such as temporary files."""


class ReadBack(Runner):
    """Reads the file again and runs it in NumPy: for formats whose program is not at hand."""

    def __init__(self, read: SavedModel, format: str) -> None:
        self.name = f"l0gate's own reader of {format}"
        self._net = read

    def sequence(self, x: np.ndarray) -> np.ndarray:
        return run_net(self._net, x)

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        chain = self._net.chain
        both = chain is not None and any(layer.get("bidirectional") for layer in chain.layers)
        return None if both else run_net(self._net, x, stepwise=True)


def run_net(saved: SavedModel, x: np.ndarray, *, stepwise: bool = False) -> np.ndarray:
    """Outputs (T, O) of a net for one sequence, tokens (T,) or features (T, I), in NumPy."""
    net = saved.net("numpy")
    if stepwise:
        stream = net.stream()
        return np.stack([stream.step(x_t) for x_t in x])
    y, _ = net(x[None] if net.net.batch_first else x[:, None])
    return np.asarray(y[0] if net.net.batch_first else y[:, 0])
