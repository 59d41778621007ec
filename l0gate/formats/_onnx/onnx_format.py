"""The format "onnx": graphs that every runtime reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from l0gate.formats._onnx.reading import content_of
from l0gate.formats._onnx.runtime import OnnxRunner, runtime_is_here
from l0gate.formats._onnx.writing import model_bytes
from l0gate.formats.format import Content, Format
from l0gate.formats.layers import recurrent_layers
from l0gate.formats.runner import Runner

__all__ = ["Onnx"]


class Onnx(Format):
    """LSTM, GRU and simple RNN layers of any sizes and directions, with their states in and out.

    `static=True` writes a file for one step of one sequence, for compilers that need fixed sizes.
    Reading, `constants` gives arrays to inputs of the graph (a dict from their names), and `output`
    names the value that is the net's output, for graphs that have several outputs, or end in
    operators that l0gate lacks.
    """

    name = "onnx"
    suffixes = (".onnx",)
    summary = "graphs for any runtime, for whole sequences and for streaming"
    reader = "ONNX Runtime, OpenVINO, TensorRT, onnx2c and other programs that read opset 17"
    holds: ClassVar[Mapping[str, Any]] = {
        "cells": "LSTM, GRU, RNN",
        "unequal": True,
        "bidirectional": True,
        "embedding": True,
        "selection": True,
    }
    options: ClassVar[Mapping[str, Any]] = {"static": False}
    read_options: ClassVar[Mapping[str, Any]] = {"constants": None, "output": None}
    keeps_proof = True

    def write(self, content: Content, *, static: bool = False, **options: Any) -> bytes:
        return model_bytes(content, static=static)

    def read(
        self,
        content: bytes,
        *,
        constants: Mapping[str, Any] | None = None,
        output: str | None = None,
        **options: Any,
    ) -> Content:
        return content_of(content, constants, output)

    def runner(self, content: bytes, *, static: bool = False, **options: Any) -> Runner | None:
        if not runtime_is_here():
            return super().runner(content)
        found = content_of(content)
        both = any(len(layer.directions) == 2 for layer in recurrent_layers(found.layers))
        return OnnxRunner(content, batch_first=found.batch_first, static=static, stepwise=not both)
