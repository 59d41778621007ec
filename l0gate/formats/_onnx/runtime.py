"""A written file, run by ONNX Runtime: the proof of an export."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats.runner import Runner

__all__ = ["OnnxRunner", "runtime_is_here"]


def runtime_is_here() -> bool:
    """Whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


class OnnxRunner(Runner):
    """Runs a file that l0gate wrote: whole, and step by step with the states that it returns."""

    def __init__(self, content: bytes, *, batch_first: bool, static: bool, stepwise: bool) -> None:
        import onnxruntime

        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self._batch_first, self._static, self._stepwise = batch_first, static, stepwise
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise L0GateError(f"{self.name} cannot load the written file: {error}") from None
        self._states = [entry for entry in self._session.get_inputs() if entry.name != "x"]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def sequence(self, x: np.ndarray) -> np.ndarray:
        return self._steps(x) if self._static else self._run(x, self._zeros())[0]

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        return self._steps(x) if self._stepwise else None

    def _zeros(self) -> dict[str, np.ndarray]:
        return {s.name: np.zeros((1, 1, s.shape[2]), np.float32) for s in self._states}

    def _run(
        self, x: np.ndarray, states: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        one = x[None] if self._batch_first else x[:, None]
        one = one.astype(np.int64) if x.ndim == 1 else one
        y, *new = self._session.run(None, {"x": one, **states})
        named = dict(zip(self._outputs[1:], new, strict=True))
        following = {name: named[name.replace("_in", "_out")] for name in states}
        return (y[0] if self._batch_first else y[:, 0]), following

    def _steps(self, x: np.ndarray) -> np.ndarray:
        states, found = self._zeros(), []
        for t in range(len(x)):
            y, states = self._run(x[t : t + 1], states)
            found.append(y[0])
        return np.stack(found)
