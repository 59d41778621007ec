"""The package onnx, where it is missing."""

from __future__ import annotations

import sys

import pytest

import l0gate
from l0gate.formats._onnx.package import needs_onnx


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(l0gate.L0GateError, match=r"pip install 'l0gate\[onnx\]'"):
        needs_onnx()
