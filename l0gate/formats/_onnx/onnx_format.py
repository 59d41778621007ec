"""The format "onnx"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.package import needs_onnx
from l0gate.formats._onnx.reading import read_graph
from l0gate.formats._onnx.runtime import OnnxRunner, has_runtime
from l0gate.formats._onnx.writing import onnx_model
from l0gate.formats.format import Content, Format
from l0gate.formats.layers import recurrent_layers
from l0gate.formats.runner import Runner

__all__ = ["Onnx"]


class Onnx(Format):
    """One file for whole sequences and for streaming, with the states as inputs and outputs."""

    name = "onnx"
    suffixes = (".onnx",)
    summary = "ONNX with states in and out, for whole sequences and streams"
    reader = "ONNX Runtime, OpenVINO, TensorRT and every other reader of ONNX"
    holds: ClassVar[Mapping[str, Any]] = {
        "cells": "LSTM, GRU, RNN",
        "unequal": True,
        "bidirectional": True,
        "embedding": True,
        "selection": True,
    }
    options: ClassVar[Mapping[str, Any]] = {"static": False}
    read_options: ClassVar[Mapping[str, Any]] = {"constants": None}
    keeps_proof = True

    def write(self, content: Content, *, static: bool = False, **options: Any) -> bytes:
        return onnx_model(content, static)

    def read(self, content: bytes, *, constants: Any = None, **options: Any) -> Content:
        onnx = needs_onnx()
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception as error:
            raise L0GateError(f"is no ONNX file, or is truncated: {error}") from None
        check(len(model.graph.node) > 0, "is no ONNX file, or holds no operators")
        given = _constants(constants)
        layers, batch_first = read_graph(model.graph, given)
        properties = {prop.key: prop.value for prop in model.metadata_props}
        return Content(layers, _metadata(properties), batch_first)

    def runner(self, content: bytes, *, static: bool = False, **options: Any) -> Runner | None:
        if not has_runtime():
            return super().runner(content)
        found = self.read(content)
        streams = all(len(layer.directions) == 1 for layer in recurrent_layers(found.layers))
        return OnnxRunner(content, batch_first=found.batch_first, static=static, streams=streams)


def _constants(given: Any) -> dict[str, np.ndarray]:
    if given is None:
        return {}
    check(
        isinstance(given, Mapping) and all(isinstance(name, str) for name in given),
        f"`constants` is {type(given).__name__}; it must be a dict of arrays by name",
    )
    found = {name: np.asarray(value) for name, value in given.items()}
    for name, value in found.items():
        check(value.dtype.kind in "iuf", f"`constants[{name!r}]` holds {value.dtype}, not numbers")
    return found


def _metadata(properties: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(properties.get("l0gate.metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
