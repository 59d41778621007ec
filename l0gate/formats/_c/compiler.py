"""A written header, compiled and run by the system's C compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats.runner import Runner

__all__ = ["CompiledHeader", "find_compiler"]

_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror")
# Reads the number of steps and how to run, then the inputs; writes the outputs.
_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
int main(int argc, char **argv)
{{
    const int steps = argc > 1 ? atoi(argv[1]) : 0, whole = argc > 2;
    const size_t wide = {inputs}, out = {upper}_OUTPUTS;
    {kind} *x = ({kind} *)malloc(((size_t)steps + 1) * wide * sizeof(*x));
    float *y = (float *)malloc(((size_t)steps + 1) * out * sizeof(*y));
    static {name}_state s;
    int t;
    const size_t count = (size_t)steps * wide;
    if (!x || !y || fread(x, sizeof(*x), count, stdin) != count) return 2;
    {name}_reset(&s);
    if (whole) {name}_process(&s, x, y, steps);
    else for (t = 0; t < steps; t++) {name}_step(&s, {step}, y + (size_t)t * out);
    if (fwrite(y, sizeof(*y), (size_t)steps * out, stdout) != (size_t)steps * out) return 3;
    free(x);
    free(y);
    return 0;
}}
"""


def find_compiler() -> list[str] | None:
    """The command of a C compiler: what CC says, else cc, gcc or clang; None if there is none."""
    given = os.environ.get("CC")
    if given:
        return shlex.split(given)
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


class CompiledHeader(Runner):
    """Compiles the header with warnings as errors, and runs it in a process of its own."""

    def __init__(
        self,
        content: bytes,
        name: str,
        tokens: bool,
        compiler: Sequence[str],
        flags: Sequence[str] = (),
    ) -> None:
        self.name = f"C, compiled by {' '.join(compiler)}"
        self._tokens = tokens
        self._folder = tempfile.TemporaryDirectory()
        program = _PROGRAM.format(
            name=name,
            upper=name.upper(),
            kind="int" if tokens else "float",
            inputs=1 if tokens else f"{name.upper()}_INPUTS",
            step="x[t]" if tokens else "x + (size_t)t * wide",
        )
        for file, text in (("net.h", content), ("main.c", program.encode())):
            with open(self._path(file), "wb") as opened:
                opened.write(text)
        command = [*compiler, *_FLAGS, *flags, "main.c", "-o", "net", "-lm"]
        try:
            done = subprocess.run(
                command, cwd=self._folder.name, capture_output=True, text=True, timeout=600
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise L0GateError(f"the C compiler {command[0]!r} cannot be run: {error}") from None
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()[:3]
            raise L0GateError(
                f"the C compiler {command[0]!r} refuses the written header: {' '.join(lines)}"
            )

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.name, name)

    def sequence(self, x: np.ndarray) -> np.ndarray:
        return self._run(x, whole=True)

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        return self._run(x, whole=False)

    def _run(self, x: np.ndarray, whole: bool) -> np.ndarray:
        data = x.astype(np.int32 if self._tokens else np.float32).tobytes()
        command = [self._path("net"), str(len(x)), *(["whole"] if whole else [])]
        done = subprocess.run(command, input=data, capture_output=True)
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()[:300]
            raise L0GateError(f"the compiled header ended with {done.returncode}: {message}")
        return np.frombuffer(done.stdout, np.float32).reshape(len(x), -1)

    def close(self) -> None:
        self._folder.cleanup()
