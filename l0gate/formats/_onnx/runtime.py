"""A written file, run by ONNX Runtime: whole sequences, and one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats.runner import Runner

__all__ = ["OnnxRunner", "has_runtime"]


def has_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


class OnnxRunner(Runner):
    """Runs the bytes of a file on one thread of the CPU."""

    def __init__(self, content: bytes, *, batch_first: bool, static: bool, streams: bool) -> None:
        import onnxruntime

        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise L0GateError(f"{self.name} cannot load the written file: {error}") from None
        self._batch_first, self._static, self._streams = batch_first, static, streams
        given = self._session.get_inputs()[1:]
        self._zeros = {
            value.name: np.zeros([1 if isinstance(n, str) else n for n in value.shape], np.float32)
            for value in given
        }

    def sequence(self, x: np.ndarray) -> np.ndarray:
        if self._static:
            return self._stepped(x)
        return self._run(x, self._zeros)[0]

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        return self._stepped(x) if self._streams else None

    def _stepped(self, x: np.ndarray) -> np.ndarray:
        state, found = self._zeros, []
        for x_t in x:
            y, state = self._run(x_t[None], state)
            found.append(y[0])
        return np.stack(found)

    def _run(self, x: np.ndarray, state: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        batched = x[None] if self._batch_first else x[:, None]
        kind = np.int64 if x.ndim == 1 else np.float32
        y, *rest = self._session.run(None, {"x": batched.astype(kind), **state})
        return y[0] if self._batch_first else y[:, 0], dict(zip(state, rest, strict=True))
