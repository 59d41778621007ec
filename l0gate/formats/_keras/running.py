"""A written `.keras` file, run by Keras in a process of its own.

Keras chooses its backend when it is imported and keeps it, so it is not imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats.runner import Runner

__all__ = ["KerasRunner", "keras_backend"]

_SCRIPT = """
import sys, numpy as np, keras
model = keras.saving.load_model(sys.argv[1], compile=False)
for line in sys.stdin:
    x = np.load(line.strip() + "x.npy")
    y = model(keras.ops.convert_to_tensor(x[None]), training=False)
    np.save(line.strip() + "y.npy", keras.ops.convert_to_numpy(y)[0])
    print("done", flush=True)
"""


def keras_backend() -> str | None:
    """The backend that Keras can run with here; None if Keras, or every backend, is missing."""
    if find_spec("keras") is None:
        return None
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen:
        return chosen
    return next((name for name in ("torch", "jax", "tensorflow") if find_spec(name)), None)


class KerasRunner(Runner):
    """Keeps one process with the model loaded, from the first sequence on."""

    def __init__(self, content: bytes, backend: str) -> None:
        self.name = f"Keras on {backend}"
        self._backend = backend
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        with open(self._path("net.keras"), "wb") as file:
            file.write(content)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.name, name)

    def _start(self) -> subprocess.Popen[str]:
        with open(self._path("errors"), "w") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, self._path("net.keras")],
                env={**os.environ, "KERAS_BACKEND": self._backend},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def sequence(self, x: np.ndarray) -> np.ndarray:
        self._process = self._process or self._start()
        np.save(self._path("x.npy"), x.astype(np.int32) if x.ndim == 1 else x)
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        with suppress(BrokenPipeError):
            asked.write(self._path("") + "\n")
            asked.flush()
        while (answer := answers.readline()) not in ("done\n", ""):
            pass  # what Keras or its backend prints
        if not answer:
            with open(self._path("errors")) as errors:
                last = errors.read().strip().splitlines()[-1:] or ["it gave no message"]
            raise L0GateError(f"{self.name} cannot run the written file: {last[0]}")
        y: np.ndarray = np.load(self._path("y.npy"))
        return y

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()
