"""`l0gate.backends` offers the classes that users meet, and imports torch only for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import l0gate
import l0gate.backends
from l0gate import Budget
from l0gate.backends import GatedModule, RaggedRNN


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_classes_are_those_of_the_objects() -> None:
    gated = l0gate.gate(
        nn.GRU(3, 8, 2), example_inputs=torch.zeros(5, 2, 3), budget=Budget(parameters=0.5)
    )
    assert type(gated) is GatedModule
    assert isinstance(gated.shrink(), RaggedRNN)
    for given in (GatedModule, RaggedRNN):
        assert f"from l0gate.backends import {given.__name__}" in (given.__doc__ or "")


def test_names_are_listed() -> None:
    assert l0gate.backends.__all__ == ["GatedModule", "PrunableLayerNorm", "RaggedRNN"]
    assert set(l0gate.backends.__all__) <= set(dir(l0gate.backends))
    with pytest.raises(AttributeError, match=r"module 'l0gate\.backends' has no attribute 'Net'"):
        l0gate.backends.Net  # noqa: B018


def test_torch_is_imported_for_its_classes_alone() -> None:
    loaded = "print('torch' in sys.modules)"
    before = "import sys, l0gate, l0gate.backends; dir(l0gate.backends)"
    assert python(f"{before}; {loaded}") == "False"
    assert python(f"{before}; l0gate.get_backend('numpy'); {loaded}") == "False"
    assert python(f"{before}; from l0gate.backends import RaggedRNN; {loaded}") == "True"
