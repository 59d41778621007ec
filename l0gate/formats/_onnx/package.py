"""The package onnx, imported when it is needed."""

from __future__ import annotations

from typing import Any

from l0gate._errors import L0GateError

__all__ = ["needs_onnx"]


def needs_onnx() -> Any:
    """The package onnx with its helpers, which only ONNX files need."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise L0GateError("ONNX files need the package onnx: pip install 'l0gate[onnx]'") from None
    return onnx
