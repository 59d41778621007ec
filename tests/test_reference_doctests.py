"""The examples in the docstrings of `reference` run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys

import pytest

import l0gate.reference

MODULES = (
    "_cells",
    "_layers",
    "_build",
    "_losses",
    "_net",
    "_objective",
    "compiled.inference.program",
    "compiled.training.parts",
    "_recurrent",
    "runtime.bound_net",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"l0gate.reference.{name}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", l0gate.reference.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    public = getattr(l0gate.reference, name)
    assert inspect.getdoc(public)
    if not name.endswith("_backward"):  # which need a tape: their forward's example is enough
        assert doctest.DocTestFinder().find(public, name)[0].examples


def _python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return result.stdout.strip()


def test_importing_needs_numpy_alone() -> None:
    code = (
        "import sys, l0gate.reference; "
        "print([m for m in ('numba', 'scipy', 'torch', 'pytest') if m in sys.modules])"
    )
    assert _python(code) == "[]"


NET = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import numpy as np
from l0gate.reference import Net
net = Net([{"type": "lstm", "name": "rnn"}])
parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
"""


def test_without_numba_auto_is_numpy() -> None:
    code = NET + "print(net.apply(parameters, np.ones((4, 1, 2)))[0].shape)"
    assert _python(code) == "(4, 1, 3)"


def test_without_numba_asking_for_it_is_an_error() -> None:
    code = NET + (
        "try:\n    net.apply(parameters, np.ones((4, 1, 2)), engine='numba')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    message = _python(code)
    assert message.startswith("L0GateError `engine` is 'numba', which needs numba")
    assert "pip install 'l0gate[fast]'" in message
